"""Prompts to vectors by the checkpoint's own text tower, and what is said when a part of it is
missing.
"""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from test.text_models import clip_folder, siglip_folder, tips_folder, tokenizer
from vit_perception.checkpoints.clip.text_tower import encode_texts, tokenizer_paths
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import open_checkpoint

PROMPTS = [
    f"a {name}." for name in ("cup", "red can", "x", "tray of cups")
] * 20  # more than one batch
FAMILIES = {
    "clip": (clip_folder, {"padding": True}),
    "siglip": (siglip_folder, {"padding": "max_length", "max_length": 40}),
    "tipsv2": (tips_folder, {"padding": "max_length", "max_length": 40}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers(family, tmp_path):
    make, padding = FAMILIES[family]
    theirs = make(tmp_path)
    texts = encode_texts(open_checkpoint(str(tmp_path)), family, PROMPTS)
    expected = theirs.get_text_features(
        **tokenizer()(PROMPTS, return_tensors="pt", **padding)
    ).pooler_output
    assert np.abs(texts.vectors - expected.numpy()).max() <= 1e-4
    assert np.abs(texts.vectors[0] - texts.vectors[1]).max() > 0.1  # other words, another vector
    scale = 1 / theirs.temperature if family == "tipsv2" else theirs.logit_scale.exp()
    assert texts.scale == pytest.approx(scale.item(), rel=1e-6)
    assert texts.bias == (pytest.approx(theirs.logit_bias.item()) if family == "siglip" else 0.0)


def test_an_image_tower_alone_says_what_it_lacks(tmp_path):
    clip_folder(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    save_file(
        {
            name: tensor
            for name, tensor in held.items()
            if name.startswith(("vision_model", "visual"))
        },
        tmp_path / "model.safetensors",
    )
    with pytest.raises(
        CheckpointError,
        match=r"model.safetensors has no tensor text_model.embeddings.token_embedding."
        r"weight, logit_scale, text_projection.weight: it is an image tower",
    ):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)


@pytest.mark.parametrize(
    "family, missing", [("clip", "vocab.json with merges.txt"), ("siglip", "spiece.model")]
)
def test_a_missing_tokenizer_is_named(family, missing, tmp_path):
    FAMILIES[family][0](tmp_path)
    assert "tokenizer.json" in tokenizer_paths(open_checkpoint(str(tmp_path)))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError,
        match=f"no file tokenizer.json and no {missing}, which zero_shot.labels need",
    ):
        encode_texts(open_checkpoint(str(tmp_path)), family, PROMPTS)


def test_a_damaged_tokenizer_is_named(tmp_path):
    clip_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=f"{tmp_path}: .*; accepted: a tokenizer that transformers"
    ):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)


def test_a_tokenizer_cannot_run_code(tmp_path):
    """auto_map names a class in a file of the folder; it is not even imported."""
    clip_folder(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {
        "auto_map": {"AutoTokenizer": ["hostile.Hostile", None]},
        "tokenizer_class": "Hostile",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "hostile.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Hostile: pass\n"
    )
    try:
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)
    except CheckpointError as error:
        assert "accepted: a tokenizer" in str(error)
    assert not (tmp_path / "ran").exists()


def test_a_prompt_that_is_too_long_is_named(tmp_path):
    clip_folder(tmp_path)
    with pytest.raises(
        CheckpointError, match="the prompt 'a{59}' is 61 tokens long; accepted by .*: up to 40"
    ):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", ["a cup", "a" * 59])


def test_damaged_text_weights_are_refused_as_any_others(tmp_path):
    clip_folder(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    held["text_model.final_layer_norm.weight"] = torch.full((32,), float("nan"))
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\(text tower\): final_layer_norm.weight holds NaN"):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)


def test_without_transformers_the_pip_command_is_given(tmp_path, monkeypatch):
    clip_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match="pip install transformers"):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)


@pytest.mark.parametrize(
    "name, tensor, message",
    [
        ("text_projection.weight", torch.full((20, 32), float("nan")), "holds NaN or infinity"),
        (
            "text_projection.weight",
            torch.ones(21, 32),
            r"has the shape \(21, 32\); accepted: \(20, 32\)",
        ),
        ("logit_scale", torch.tensor(float("inf")), "holds NaN or infinity"),
        ("logit_scale", torch.ones(2), r"has the shape \(2,\); accepted: one number"),
    ],
)
def test_damaged_numbers_beside_the_text_tower_are_refused(tmp_path, name, tensor, message):
    clip_folder(tmp_path)
    save_file(
        {**load_file(tmp_path / "model.safetensors"), name: tensor}, tmp_path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=f"{name} .*{message}"):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)


def test_a_damaged_bias_of_siglip_is_refused(tmp_path):
    siglip_folder(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    save_file(
        {**held, "logit_bias": torch.full((1,), float("nan"))}, tmp_path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match="logit_bias .*holds NaN"):
        encode_texts(open_checkpoint(str(tmp_path)), "siglip", PROMPTS)


def test_a_text_tower_that_is_not_as_deep_as_config_json_claims_is_refused_before_it_is_made(
    tmp_path,
):
    clip_folder(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields["text_config"]["num_hidden_layers"] = 10**9
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="num_hidden_layers 1000000000, .*accepted: 2 and"):
        encode_texts(open_checkpoint(str(tmp_path)), "clip", PROMPTS)
