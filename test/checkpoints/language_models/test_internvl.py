"""InternViT of transformers, alone and in InternVL, and under OpenGVLab's names of the weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLConfig, InternVLModel, InternVLVisionConfig, InternVLVisionModel

from test.checkpoints.huggingface.models import (
    LIMIT,
    STRETCH,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

TOWER = {**WITH_MLP, "image_size": [32, 32], "patch_size": [8, 8]}
LARGE = {"norm_type": "rms_norm", "use_qk_norm": True}
TEXT = {
    "model_type": "qwen2",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 20,
}


def tower(**fields):
    return InternVLVisionModel, InternVLVisionConfig(**TOWER, **fields)


CASES = {
    "300M": tower(attention_bias=True),
    "6B": tower(**LARGE),
    "with a final norm": tower(use_mean_pooling=False),
    "with a mask token": tower(use_mask_token=True),
    "whole": (
        InternVLModel,
        InternVLConfig(vision_config={**TOWER, "attention_bias": True}, text_config=TEXT),
    ),
}
# OpenGVLab/InternVL3-1B-hf, as published, in the size of the test.
PUBLISHED = {
    **STRETCH,
    "crop_to_patches": False,
    "image_processor_type": "GotOcr2ImageProcessorFast",
    "max_patches": 12,
    "min_patches": 1,
    "resample": 3,
}
# transformers' names of a block -> OpenGVLab's.
OPENGVLAB = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.projection_layer": "attn.proj",
    "attention.q_norm": "attn.q_norm",
    "attention.k_norm": "attn.k_norm",
    "lambda_1": "ls1",
    "lambda_2": "ls2",
    "encoder.layer.": "encoder.layers.",
    "cls_token": "class_embedding",
    "patch_embeddings.projection": "patch_embedding",
    "position_embeddings": "position_embedding",
}


def check(loaded, theirs):
    assert loaded.card.family == "internvl"
    for size in ((32, 32), (48, 48), (16, 16)):
        images = torch.randn(2, 3, *size)
        tokens = theirs(images).last_hidden_state
        assert tokens.std(dim=1).mean() > 0.1
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, 1:]) <= LIMIT


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    check(loaded, getattr(theirs, "vision_tower", theirs))
    assert all(
        name.startswith(("language_model.", "multi_modal_projector.", "model.", "embeddings.mask"))
        for name in loaded.unused
    )
    assert bool(loaded.unused) == (case in ("whole", "with a mask token"))


@pytest.mark.parametrize("case", ["300M", "6B"])
def test_names_of_opengvlab(case, tmp_path):
    theirs = randomised(*CASES[case])
    saved(theirs, tmp_path, preprocessor=PUBLISHED)
    held = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for old, new in OPENGVLAB.items():
            name = name.replace(old, new)
        held[f"vision_model.{name}"] = tensor
    for name in [name for name in held if "attention.q_proj" in name]:
        parts = [held.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        held[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    held["mlp1.0.weight"] = torch.zeros(2)
    held["language_model.model.norm.weight"] = torch.zeros(2)
    save_file(held, tmp_path / "model.safetensors")
    vision = {
        **WITH_MLP,
        "norm_type": "rms_norm" if case == "6B" else "layer_norm",
        "qk_normalization": case == "6B",
        "qkv_bias": case == "300M",
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
    }
    config = {"model_type": "internvl_chat", "select_layer": -1, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check(load_checkpoint(str(tmp_path)), theirs)


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"norm_type": "batch_norm"}, "norm_type is 'batch_norm'; accepted: layer"),
        ("config.json", {"use_absolute_position_embeddings": False}, "use_absolute_position"),
        (
            "config.json",
            {"norm_type": "rms_norm", "use_mean_pooling": False},
            "use_mean_pooling is false with norm_type rms_norm",
        ),
        ("config.json", {"vision_feature_layer": -2}, "vision_feature_layer is -2; accepted: -1"),
        ("config.json", {"use_qk_norm": True}, "6 missing"),
        ("preprocessor_config.json", {"crop_to_patches": True}, "crop_to_patches is True"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(file, changes, message, tmp_path):
    folder = saved(randomised(*CASES["300M"]), tmp_path, preprocessor=PUBLISHED)
    fields = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**fields, **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
