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
from vit_perception.heads.connectors import Connector, ConnectorSpec

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
        name.startswith(("language_model.", "model.language_model.", "embeddings.mask"))
        for name in loaded.unused
    )
    assert bool(loaded.unused) == (case in ("whole", "with a mask token"))
    assert bool(loaded.connector) == (case == "whole")


def projected(theirs, images):
    """The image tokens of InternVL's own code, on a square of patches."""
    return theirs.get_image_features(images, vision_feature_layer=-1).pooler_output


def test_projected_tokens_are_the_language_models(tmp_path):
    theirs = randomised(*CASES["whole"])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    images = torch.randn(2, 3, 32, 32)
    wanted = projected(theirs, images)
    assert wanted.std(dim=1).mean() > 0.1
    ours = loaded.connector(loaded.model(images).patch_tokens, (4, 4))
    assert largest_difference(ours, wanted) <= LIMIT
    assert loaded.connector.spec.as_json() == {
        "widths": [128, 16, 16],
        "shuffle": 2,
        "bias": True,
        "scale": 1.0,
        "norm": "layer",
        "norm_place": "square",
        "norm_eps": 1e-5,
    }


def test_the_shuffle_is_that_of_opengvlab_row_by_row():
    """Its code, written out; ps_version v2 turns rows and columns back."""
    spec = ConnectorSpec(widths=(12, 12), shuffle=2, bias=False)
    connector = Connector(spec).requires_grad_(False)
    connector.layers[0].weight.copy_(torch.eye(12))
    tokens = torch.randn(2, 24, 3)
    x = tokens.reshape(2, 4, 6, 3)
    x = x.reshape(2, 4, 3, 6).permute(0, 2, 1, 3).reshape(2, 3, 2, 12).permute(0, 2, 1, 3)
    assert torch.equal(connector(tokens, (4, 6)), x.flatten(1, 2))


def renamed(held):
    """A tower's tensors under OpenGVLab's names."""
    found = {}
    for name, tensor in held.items():
        for old, new in OPENGVLAB.items():
            name = name.replace(old, new)
        found[f"vision_model.{name}"] = tensor
    for name in [name for name in found if "attention.q_proj" in name]:
        parts = [found.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        found[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return found


def write_opengvlab(folder, theirs, case, **fields):
    """A folder as OpenGVLab writes it, with a projector; gives the projector."""
    saved(theirs, folder, preprocessor=PUBLISHED)
    held = renamed(load_file(folder / "model.safetensors"))
    torch.manual_seed(1)
    linear = torch.nn.Linear
    mlp1 = torch.nn.Sequential(
        torch.nn.LayerNorm(128), linear(128, 24), torch.nn.GELU(), linear(24, 24)
    )
    torch.nn.init.normal_(mlp1[0].weight)
    held |= {f"mlp1.{name}": tensor.detach().clone() for name, tensor in mlp1.state_dict().items()}
    held["language_model.model.norm.weight"] = torch.zeros(2)
    save_file(held, folder / "model.safetensors")
    vision = {
        **WITH_MLP,
        "norm_type": "rms_norm" if case == "6B" else "layer_norm",
        "qk_normalization": case == "6B",
        "qkv_bias": case == "300M",
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
    }
    config = {
        "model_type": "internvl_chat",
        "select_layer": -1,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "vision_config": vision,
        **fields,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return mlp1.requires_grad_(False)


@pytest.mark.parametrize("case", ["300M", "6B"])
def test_names_of_opengvlab(case, tmp_path):
    theirs = randomised(*CASES[case])
    mlp1 = write_opengvlab(tmp_path, theirs, case)
    loaded = load_checkpoint(str(tmp_path))
    check(loaded, theirs)
    images = torch.randn(2, 3, 32, 32)
    patches = theirs(images).last_hidden_state[:, 1:].reshape(2, 2, 2, 2, 2, 32)
    wanted = mlp1(patches.permute(0, 1, 3, 2, 4, 5).reshape(2, 4, 128))
    ours = loaded.connector(loaded.model(images).patch_tokens, (4, 4))
    assert largest_difference(ours, wanted) <= LIMIT


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"ps_version": "v1"}, "ps_version is 'v1'; accepted: v2"),
        ({"ps_version": None}, "ps_version is None; accepted: v2"),
        ({"downsample_ratio": 0.25}, "downsample_ratio is 0.25 and .* squares of 2 patches"),
        ({"downsample_ratio": "half"}, "downsample_ratio is 'half'"),
    ],
)
def test_another_way_to_the_projector_is_refused(fields, message, tmp_path):
    write_opengvlab(tmp_path, randomised(*CASES["300M"]), "300M", **fields)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(tmp_path))


def test_a_whole_model_needs_its_projector_and_no_adapter(tmp_path):
    folder = saved(randomised(*CASES["whole"]), tmp_path, preprocessor=PUBLISHED)
    weights = tmp_path / "model.safetensors"
    held = load_file(weights)
    save_file({n: t for n, t in held.items() if "linear_2.weight" not in n}, weights)
    with pytest.raises(CheckpointError, match="no .*linear_2.weight, a part of the projector"):
        load_checkpoint(folder)
    save_file({n: t for n, t in held.items() if "multi_modal" not in n}, weights)
    with pytest.raises(CheckpointError, match="has no multi_modal_projector.*accepted: the compl"):
        load_checkpoint(folder)
    save_file(held, weights)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="LoRA adapter .*merge_and_unload"):
        load_checkpoint(folder)
    (tmp_path / "adapter_config.json").unlink()
    for name, value in (
        ("projector_hidden_act", "relu"),
        ("vision_feature_select_strategy", "full"),
    ):
        config = tmp_path / "config.json"
        before = config.read_text()
        config.write_text(json.dumps({**json.loads(before), name: value}))
        with pytest.raises(CheckpointError, match=f"{name} is '{value}'; accepted: "):
            load_checkpoint(folder)
        config.write_text(before)


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
