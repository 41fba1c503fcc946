"""TIPS v2 of transformers: its image tower alone and beside the text tower, plain and SwiGLU."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Tipsv2Config, Tipsv2Model, Tipsv2VisionConfig, Tipsv2VisionModel

from test.checkpoints.huggingface.models import (
    LIMIT,
    SIZES,
    largest_difference,
    randomised,
    saved,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
}
CASES = {
    "whole": (Tipsv2Model, Tipsv2Config(vision_config=SIZES, text_config=TEXT)),
    "tower": (Tipsv2VisionModel, Tipsv2VisionConfig(**SIZES, num_register_tokens=2)),
    "swiglu": (Tipsv2VisionModel, Tipsv2VisionConfig(**SIZES, use_swiglu_ffn=True, mlp_ratio=3.1)),
}
# google/tipsv2-b14's processor in the size of the test: pixels from 0 to 1.
PUBLISHED = {
    "do_convert_rgb": True,
    "do_normalize": False,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "Tipsv2ImageProcessor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 32, "width": 32},
}


def check(loaded, theirs):
    assert loaded.card.family == "tipsv2"
    tower = getattr(theirs, "vision_model", theirs)
    first = 1 + tower.config.num_register_tokens
    for size in ((32, 32), (48, 24), (16, 40)):
        images = torch.randn(2, 3, *size)
        tokens = tower(images).last_hidden_state
        assert tokens.std(dim=1).mean() > 0.1
        ours = loaded.model(images)
        assert largest_difference(ours.patch_tokens, tokens[:, first:]) <= LIMIT
        assert largest_difference(ours.pooled, tokens[:, 0]) <= LIMIT


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    check(loaded, theirs)
    assert loaded.card.rule == ResizeRule((32, 32), "stretch", interpolation="bilinear")
    assert (loaded.card.mean, loaded.card.std) == ((0.0,) * 3, (1.0,) * 3)
    known = ("text_encoder.", "temperature", "vision_encoder.mask_token", "mask_token")
    assert all(name.startswith(known) for name in loaded.unused)


def test_names_of_google(tmp_path):
    theirs = randomised(*CASES["whole"])
    folder = saved(theirs, tmp_path, preprocessor=PUBLISHED)
    held = load_file(tmp_path / "model.safetensors")
    renamed = {
        name.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2"): tensor
        for name, tensor in held.items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    check(load_checkpoint(folder), theirs)


def test_a_processor_that_says_little_has_its_own_defaults(tmp_path):
    fields = {"image_processor_type": "Tipsv2ImageProcessor"}
    card = load_checkpoint(saved(randomised(*CASES["tower"]), tmp_path, preprocessor=fields)).card
    assert card.rule == ResizeRule((448, 448), "stretch", interpolation="bilinear")
    assert (card.mean, card.std) == ((0.0,) * 3, (1.0,) * 3)


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    folder = saved(randomised(*CASES["tower"]), tmp_path, preprocessor=PUBLISHED)
    fields = json.loads((tmp_path / "config.json").read_text())
    for changes, message in (
        ({"mlp_ratio": "4"}, "mlp_ratio is '4'"),
        ({"num_register_tokens": 1}, "mis-shaped"),
        ({"use_swiglu_ffn": True}, "unexpected"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**fields, **changes}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)
