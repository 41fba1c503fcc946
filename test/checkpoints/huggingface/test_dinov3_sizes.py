"""Every published size of DINOv3's Vision Transformers: config.json as it is on the hub, and the
number of parameters, against transformers' model of the same config. No weight is allocated.
"""

from typing import NamedTuple

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from vit_perception.checkpoints.huggingface.dinov3 import config_fields
from vit_perception.checkpoints.timm.vit import _default_heads
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import ViTConfig


class Size(NamedTuple):
    width: int
    depth: int
    heads: int
    mlp_width: int
    # SwiGLU.
    gated: bool
    # Queries and values have a bias; keys of no size do.
    bias: bool
    parameters: int
    timm: str


SIZES = {
    "S": Size(384, 12, 6, 1536, False, True, 21_596_160, "vit_small_patch16_dinov3_qkvb"),
    "S+": Size(384, 12, 6, 1536, True, True, 28_692_480, "vit_small_plus_patch16_dinov3_qkvb"),
    "B": Size(768, 12, 12, 3072, False, True, 85_659_648, "vit_base_patch16_dinov3_qkvb"),
    "L": Size(1024, 24, 16, 4096, False, True, 303_128_576, "vit_large_patch16_dinov3_qkvb"),
    "H+": Size(1280, 32, 20, 5120, True, True, 840_591_360, "vit_huge_plus_patch16_dinov3_qkvb"),
    "7B": Size(4096, 40, 32, 8192, True, False, 6_716_030_976, "vit_7b_patch16_dinov3"),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name):
    size = SIZES[name]
    theirs_config = DINOv3ViTConfig(
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        intermediate_size=size.mlp_width,
        use_gated_mlp=size.gated,
        hidden_act="silu" if size.gated else "gelu",
        query_bias=size.bias,
        value_bias=size.bias,
        num_register_tokens=4,
    )
    config = ViTConfig(**config_fields(theirs_config.to_dict()))
    with torch.device("meta"):
        ours = VisionTransformer(config).state_dict()
        theirs = DINOv3ViTModel(theirs_config).state_dict()
    # The model keeps zeros for the biases that keys do not have.
    keys = [tensor for key, tensor in ours.items() if key.endswith("attention.key.bias")]
    counted = sum(tensor.numel() for tensor in ours.values()) - sum(map(torch.numel, keys))
    assert counted == size.parameters
    unused = ("mask_token", "inv_freq")
    held = sum(tensor.numel() for key, tensor in theirs.items() if not key.endswith(unused))
    assert held == size.parameters
    assert len(keys) == (size.depth if size.bias else 0)


@pytest.mark.parametrize("name", SIZES)
def test_heads_of_timm_by_the_width(name):
    size = SIZES[name]
    assert _default_heads(size.width, size.timm, is_dinov3=True) == size.heads
