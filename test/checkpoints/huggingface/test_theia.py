"""Theia by its names: transformers' ViT, which its backbone is, under them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTModel
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil

from test.checkpoints.huggingface.models import LIMIT, largest_difference, randomised
from test.checkpoints.huggingface.processors import mean_difference
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

# Heads of 64 channels.
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
CONFIG = {"model_type": "theia", "backbone": "facebook/deit-small-patch16-224"}


def model():
    return randomised(ViTModel, ViTConfig(**SIZES))


def saved(theirs, folder, **fields):
    theirs.save_pretrained(folder)
    held = load_file(folder / "model.safetensors")
    held = {f"backbone.model.{name}": t for name, t in held.items() if "pooler" not in name}
    held["translator.translator_heads.a.0.weight"] = torch.zeros(2)
    save_file(held, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **fields}))
    return str(folder)


def test_parity_and_licence(tmp_path, caplog):
    theirs = model()
    loaded = load_checkpoint(saved(theirs, tmp_path))
    assert loaded.card.family == "theia"
    assert loaded.card.license == "The AI Institute, non-commercial research only"
    assert "DeiT's processor, which Theia loads" in caplog.text
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        tokens = theirs(images, interpolate_pos_encoding=True).last_hidden_state
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, 1:]) <= LIMIT
    assert loaded.unused == ("translator.translator_heads.a.0.weight",)


def test_preprocessing_is_the_processor_that_it_loads(tmp_path):
    card = load_checkpoint(saved(model(), tmp_path)).card
    # facebook/deit-small-patch16-224, as published.
    processor = DeiTImageProcessorPil(
        crop_size=224,
        do_center_crop=True,
        do_normalize=True,
        do_resize=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
        size=256,
    )
    assert max(mean_difference(processor, card.rule, card.mean, card.std)) <= 1 / 255


@pytest.mark.parametrize(
    "backbone",
    ["reg-facebook/deit-small-patch16-224", "nocls-facebook/deit-small-patch16-224", "x/vit", 3],
)
def test_another_backbone_is_refused_by_name(backbone, tmp_path):
    with pytest.raises(CheckpointError, match="backbone in .*config.json is .*; accepted: DeiT"):
        load_checkpoint(saved(model(), tmp_path, backbone=backbone))
