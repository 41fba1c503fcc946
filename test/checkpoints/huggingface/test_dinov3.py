"""DINOv3 of transformers: rotary positions on any grid, registers, plain and gated MLPs, biases
that it lacks.
"""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from test.checkpoints.huggingface.models import (
    LIMIT,
    SPELLINGS,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from test.checkpoints.huggingface.processors import pictures
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

CASES = {
    "small": {"num_register_tokens": 4},
    "gated": {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
    "7b": {
        "num_register_tokens": 4,
        "use_gated_mlp": True,
        "hidden_act": "silu",
        "query_bias": False,
        "value_bias": False,
    },
    "with key bias": {"key_bias": True, "num_register_tokens": 1, "rope_theta": 30.0},
}
# facebook/dinov3-vits16-pretrain-lvd1689m, as published.
PUBLISHED = {
    "crop_size": None,
    "data_format": "channels_first",
    "default_to_square": True,
    "do_center_crop": None,
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", CASES)
def test_parity(case, spelling, tmp_path):
    fields = CASES[case]
    theirs = randomised(DINOv3ViTModel, DINOv3ViTConfig(**WITH_MLP, **fields))
    loaded = load_checkpoint(saved(theirs, tmp_path, spelling))
    assert loaded.card.family == "dinov3_vit"
    assert loaded.unused == ("embeddings.mask_token",)
    first = 1 + fields["num_register_tokens"]
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        out = theirs(images, output_attentions=True)
        tokens = out.last_hidden_state
        assert tokens[:, first:].std(dim=1).mean() > 0.3
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, first:]) <= LIMIT
        assert largest_difference(ours.cls_attention, out.attentions[-1][:, :, 0, first:]) <= LIMIT


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"use_gated_mlp": True}, "hidden_act is 'gelu' with use_gated_mlp; accepted: silu"),
        (
            {"value_bias": False},
            "'value_bias': False.*accepted: proj_bias and mlp_bias true, query_bias as value_bias",
        ),
        ({"mlp_bias": False}, "'mlp_bias': False"),
    ],
)
def test_what_no_published_model_has_is_refused(changes, message, tmp_path):
    folder = saved(randomised(DINOv3ViTModel, DINOv3ViTConfig(**WITH_MLP)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_checkpoint(folder)


def test_published_preprocessing_is_its_processors_formula(tmp_path):
    """Its processor needs torchvision, which resizes floats by this function; ours rounds to 1/255,
    so 0.25 remain.
    """
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))
    rule, mean, std = preprocessing_of(tmp_path, "bicubic")
    assert rule == ResizeRule((224, 224), "stretch", interpolation="bilinear")
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for pixels in pictures():
        floats = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        theirs = functional.interpolate(floats, (224, 224), mode="bilinear", antialias=True)[0]
        ours = Preprocessor(rule)(RgbImage(pixels, 1, "camera")).float() / 255
        assert np.abs((ours - theirs).numpy()).mean() <= 0.5 / 255
