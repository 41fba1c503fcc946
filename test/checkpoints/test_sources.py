"""What a user may write as model.checkpoint, and the errors for what does not load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from test.waiting import PROGRAM_S
from vit_perception.checkpoints.load_strict import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.files.atomic import file_sha256

CONFIG = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 16,
    "patch_size": 8,
}
PREPROCESSOR = {"size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def tiny_weights(classes: int = 0) -> dict[str, torch.Tensor]:
    """A one-block ``vit`` file under the names that the hub's files have."""
    torch.manual_seed(0)
    block, prefix = "encoder.layer.0.", "vit." if classes else ""
    linear = {
        "attention.attention.query": (8, 8),
        "attention.attention.key": (8, 8),
        "attention.attention.value": (8, 8),
        "attention.output.dense": (8, 8),
        "intermediate.dense": (16, 8),
        "output.dense": (8, 16),
    }
    shapes = {
        "embeddings.cls_token": (1, 1, 8),
        "embeddings.position_embeddings": (1, 5, 8),
        "embeddings.patch_embeddings.projection.weight": (8, 3, 8, 8),
        "embeddings.patch_embeddings.projection.bias": (8,),
        "layernorm.weight": (8,),
        "layernorm.bias": (8,),
    }
    for norm in ("layernorm_before", "layernorm_after"):
        shapes |= {f"{block}{norm}.weight": (8,), f"{block}{norm}.bias": (8,)}
    for name, shape in linear.items():
        shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
    tensors = {prefix + name: torch.randn(shape) for name, shape in shapes.items()}
    if classes:
        tensors |= {
            "classifier.weight": torch.randn(classes, 8),
            "classifier.bias": torch.randn(classes),
        }
    return tensors


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "tiny-vit"
    path.mkdir()
    save_file(tiny_weights(), path / "model.safetensors")
    write_json(path, "config.json", CONFIG)
    write_json(path, "preprocessor_config.json", PREPROCESSOR)
    return path


def write_json(path, name, fields):
    (path / name).write_text(json.dumps(fields))


def test_a_folder_and_its_card(folder):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    loaded = load_checkpoint(str(folder))
    card = loaded.card
    assert (card.name, card.family, card.license, card.source) == (
        "tiny-vit",
        "vit",
        "mit",
        str(folder),
    )
    assert card.weights_sha256 == file_sha256(folder / "model.safetensors")
    assert card.rule.interpolation == "bilinear"
    assert loaded.model.config.norm_eps == 1e-12
    assert loaded.model(torch.zeros(1, 3, 16, 16)).cls_token.shape == (1, 8)


def test_a_weights_file_with_its_config_beside_it(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    assert load_checkpoint(str(folder / "mine.safetensors")).card.name == "tiny-vit"


def test_a_torch_file(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    exact = load_checkpoint(str(folder)).model(torch.ones(1, 3, 16, 16)).cls_token
    (folder / "model.safetensors").unlink()
    assert torch.equal(
        load_checkpoint(str(folder)).model(torch.ones(1, 3, 16, 16)).cls_token, exact
    )


def test_a_classifier_is_known_by_its_weights_and_by_config_json(folder):
    save_file(tiny_weights(classes=3), folder / "model.safetensors")
    write_json(folder, "config.json", {**CONFIG, "id2label": {"0": "cup", "1": "can", "2": "tin"}})
    loaded = load_checkpoint(str(folder))
    assert loaded.card.labels == ("cup", "can", "tin")
    assert loaded.model(torch.zeros(1, 3, 16, 16)).logits.shape == (1, 3)
    save_file(tiny_weights(), folder / "model.safetensors")
    write_json(folder, "config.json", {**CONFIG, "architectures": ["ViTForImageClassification"]})
    with pytest.raises(CheckpointError, match=r"2 missing(.|\n)*head.weight \(2, 8\)"):
        load_checkpoint(str(folder))


def test_labels_that_do_not_match_the_classifier_are_refused(folder):
    save_file(tiny_weights(classes=3), folder / "model.safetensors")
    write_json(folder, "config.json", {**CONFIG, "id2label": {"0": "cup", "1": "can"}})
    with pytest.raises(CheckpointError, match=r"head.weight \(2, 8\) +\| head.weight \(3, 8\)"):
        load_checkpoint(str(folder))


def test_a_name_of_the_models_own_in_the_file_is_unexpected_all_the_same(folder):
    """A file's ``norm.weight`` is not the model's: it once would have passed for it."""
    tensors = tiny_weights()
    tensors["norm.weight"] = tensors.pop("layernorm.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"1 missing, 1 unexpected(.|\n)*norm.weight \(8,\) +\| norm.weight"
    ):
        load_checkpoint(str(folder))


def test_two_spellings_of_one_weight_are_refused(folder):
    tensors = tiny_weights()
    tensors["layers.0.attention.q_proj.weight"] = torch.zeros(8, 8)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="q_proj.weight.* are the same weight"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model_type": "swin"},
            "model_type in .*config.json is 'swin'; accepted: (.*, )?vit, (.*, )?dinov2",
        ),
        ({"model_type": None}, "is None; accepted: (.*, )?vit, (.*, )?dinov2"),
        ({"num_channels": 1}, "num_channels is 1; accepted: 3"),
        ({"hidden_size": "8"}, "width of the model is '8'; accepted: an integer"),
        ({"num_attention_heads": 3}, "heads of the model is 3; accepted: a divisor"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(folder, changes, message):
    write_json(folder, "config.json", {**CONFIG, **changes})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder))


def test_a_missing_size_in_config_json_is_named(folder):
    write_json(folder, "config.json", {k: v for k, v in CONFIG.items() if k != "hidden_size"})
    with pytest.raises(CheckpointError, match="config.json has no 'hidden_size'"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(str(folder))


def test_a_network_size_that_is_no_multiple_of_the_patch_is_refused(folder):
    write_json(folder, "preprocessor_config.json", {**PREPROCESSOR, "size": 20})
    with pytest.raises(
        CheckpointError, match="20 x 20 px; accepted: both sides multiples of the patch size 8"
    ):
        load_checkpoint(str(folder))


def test_a_path_that_does_not_exist_lists_what_is_accepted(tmp_path):
    with pytest.raises(
        CheckpointError,
        match=r"does not exist; accepted: a folder .*hf://owner/name\[@revision\], or",
    ):
        load_checkpoint(str(tmp_path / "nothing"))


@pytest.mark.parametrize("checkpoint", ["hf://dinov2-small", "hf://a/b/c", "hf://a/b@", "hf://"])
def test_a_malformed_hub_name_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="accepted: hf://owner/name"):
        load_checkpoint(checkpoint)


def test_the_hub_offline_from_its_cache_and_without(folder, tmp_path):
    """In a process of its own: huggingface_hub reads HF_HUB_OFFLINE when it is imported."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--me--tiny"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    folder.rename(repo / "snapshots" / commit)
    script = (
        "from vit_perception.checkpoints.sources import load_checkpoint\n"
        "card = load_checkpoint('hf://me/tiny').card\n"
        "print(card.name, card.source)\n"
        f"open({str(repo / 'refs' / 'main')!r}, 'w').write('f' * 40)\n"
        "assert load_checkpoint('hf://me/tiny').card.source == card.source, 'of two commits'\n"
        "try:\n    load_checkpoint('hf://me/other@v2')\n"
        "except ValueError as error:\n    print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()[:2]
    assert first == f"me/tiny hf://me/tiny@{commit}"
    assert second.startswith("CheckpointError hf://me/other cannot be fetched: ")
    assert second.endswith(
        "accepted: a repository that this machine can reach or has in its cache, a folder that "
        "holds the checkpoint, or demo"
    )
