"""Image towers of vision-language models of transformers: InternViT, Qwen2.5-VL, Qwen3-VL.

Weights are random; depth is cut as the rows say. Where a model has a merger or a projector, tokens
are those behind it.
"""

from typing import Any

import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Row
from tools.checkpoint_parity.tower import HALF, Tower, prepare_fixed, prepare_plain, row_of

torchvision_ops.declare()
from transformers import InternVLConfig, InternVLModel, InternVLVisionConfig, InternVLVisionModel
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def run_internvl(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tower, which takes images."""
    tokens = model(images).last_hidden_state
    return {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, 1:]}


def run_internvl_whole(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tokens that enter the language model."""
    found = model.get_image_features(images, vision_feature_layer=-1)
    return {"patch_tokens": found.pooler_output}


def run_qwen(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """One picture after the other: patches of two frames in merged order; merged tokens."""
    return {"patch_tokens": torch.stack([_qwen_tokens(model, image) for image in images])}


def _qwen_tokens(model: Any, image: torch.Tensor) -> torch.Tensor:
    side = model.config.patch_size
    rows, columns = (length // side for length in image.shape[1:])
    patches = image.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    frames = patches[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)
    index = torch.arange(rows * columns).reshape(rows // 2, 2, columns // 2, 2)
    merged = index.permute(0, 2, 1, 3).flatten()
    found = model(frames[merged], grid_thw=torch.tensor([[1, rows, columns]]))
    tokens: torch.Tensor = found.pooler_output
    return tokens


GOT_OCR = {
    "image_processor_type": "GotOcr2ImageProcessor",
    "size": {"height": 448, "width": 448},
    "crop_to_patches": False,
    "resample": 3,
    **IMAGENET,
}
QWEN_2_5 = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}
QWEN_3 = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "resample": 3,
    **HALF,
}
QWEN_NOTE = "tokens behind the merger; pixels by the processor's resize to one size"
INTERNVL_1B = InternVLConfig(
    vision_config={"num_hidden_layers": 6, "attention_bias": True},
    text_config={
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 20,
    },
)
TOWERS = (
    Tower(
        family="internvl",
        what="InternViT 300M, 6 of its 24 blocks",
        kind=InternVLVisionModel,
        config=InternVLVisionConfig(num_hidden_layers=6, attention_bias=True),
        preprocessor=GOT_OCR,
        run=run_internvl,
        prepare=prepare_plain,
        other_size_px=(224, 224),
    ),
    Tower(
        family="internvl",
        what="InternViT 6B, 1 of its 45 blocks",
        kind=InternVLVisionModel,
        config=InternVLVisionConfig(
            hidden_size=3200,
            num_hidden_layers=1,
            num_attention_heads=25,
            intermediate_size=12800,
            use_qk_norm=True,
            norm_type="rms_norm",
        ),
        preprocessor=GOT_OCR,
        run=run_internvl,
        prepare=prepare_plain,
        other_size_px=(224, 224),
    ),
    Tower(
        family="internvl",
        what="InternVL3 1B, 6 of its tower's 24 blocks",
        kind=InternVLModel,
        config=INTERNVL_1B,
        preprocessor=GOT_OCR,
        run=run_internvl_whole,
        prepare=prepare_plain,
        other_size_px=(224, 224),
        note="tokens behind the projector; the language model is small",
    ),
    Tower(
        family="qwen2_5_vl",
        what="image tower with merger, 4 of its 32 blocks",
        kind=Qwen2_5_VisionTransformerPretrainedModel,
        config=Qwen2_5_VLVisionConfig(hidden_size=1280, depth=4, fullatt_block_indexes=[2]),
        preprocessor=QWEN_2_5,
        run=run_qwen,
        prepare=lambda processor, picture: prepare_fixed(processor, picture, (476, 644)),
        other_size_px=(252, 336),
        note=QWEN_NOTE,
    ),
    Tower(
        family="qwen3_vl",
        what="image tower with merger, 4 of its 27 blocks",
        kind=Qwen3VLVisionModel,
        config=Qwen3VLVisionConfig(depth=4, deepstack_visual_indexes=[1]),
        preprocessor=QWEN_3,
        run=run_qwen,
        prepare=lambda processor, picture: prepare_fixed(processor, picture, (480, 640)),
        other_size_px=(256, 320),
        note=QWEN_NOTE + "; deep-stack outputs left out",
    ),
    Tower(
        family="qwen3_vl",
        what="GR00T N1.7's tower with merger, 4 of its 24 blocks",
        kind=Qwen3VLVisionModel,
        config=Qwen3VLVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            out_hidden_size=2048,
            depth=4,
            deepstack_visual_indexes=[1],
        ),
        preprocessor=QWEN_3,
        run=run_qwen,
        prepare=lambda processor, picture: prepare_fixed(processor, picture, (480, 640)),
        other_size_px=(256, 320),
        note=QWEN_NOTE + "; deep-stack outputs left out",
    ),
)


def rows() -> list[Row]:
    """One row a tower."""
    return [row_of(tower) for tower in TOWERS]
