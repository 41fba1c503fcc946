"""`vit-perception extract`: what is written gives the policy's tokens to the bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from test.checkpoints.family_files import WRITERS
from test.checkpoints.policies.policy_folders import (
    PI0,
    pi0_tensors,
    smolvla_tensors,
    write,
    write_smolvla,
)
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.main import main
from vit_perception.engines.reference import encoder_digest, graph_of


def extracted(policy, out) -> None:
    assert main(["extract", str(policy), "--out", str(out)]) == 0


@pytest.mark.parametrize("family", ["evo1", "qwen2_5_vl", "qwen3_vl"])
def test_a_connector_with_a_norm_comes_back(family, tmp_path):
    WRITERS[family](tmp_path / "model")
    extracted(tmp_path / "model", tmp_path / "encoder")
    theirs = load_checkpoint(str(tmp_path / "model"))
    ours = load_checkpoint(str(tmp_path / "encoder"))
    assert ours.connector.spec == theirs.connector.spec
    assert encoder_digest(ours) == encoder_digest(theirs)


@pytest.mark.parametrize("kind", ["smolvla", "pi0 in bfloat16"])
def test_round_trip_is_equal(kind, tmp_path):
    if kind == "smolvla":
        policy = write_smolvla(tmp_path / "policy")
    else:
        narrow = {name: tensor.bfloat16() for name, tensor in pi0_tensors().items()}
        policy = write(tmp_path / "policy", PI0, narrow)
    (policy / "README.md").write_text("---\nlicense: gemma\n---\n")
    out = tmp_path / "encoder"
    extracted(policy, out)
    theirs = load_checkpoint(str(policy))
    ours = load_checkpoint(str(out))
    assert (ours.card.family, ours.card.license) == ("vit_perception", "gemma")
    assert (ours.card.rule, ours.card.mean, ours.card.std) == (
        theirs.card.rule,
        theirs.card.mean,
        theirs.card.std,
    )
    assert encoder_digest(ours) == encoder_digest(theirs)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for one, other in zip(graph_of(ours)(images), graph_of(theirs)(images), strict=True):
        assert torch.equal(one, other)
    assert ours.state.spec == theirs.state.spec
    for name, tensor in theirs.state.state_dict().items():
        assert torch.equal(ours.state.state_dict()[name], tensor)
    stored = {tensor.dtype for tensor in load_file(out / "model.safetensors").values()}
    if kind != "smolvla":
        assert stored == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["origin"] == {
        "source": str(policy),
        "family": theirs.card.family,
        "weights_sha256": theirs.card.weights_sha256,
    }
    assert "its licence (gemma) holds" in (out / "README.md").read_text()


def test_nothing_is_written_over(tmp_path, capsys):
    policy = write_smolvla(tmp_path / "policy")
    out = tmp_path / "encoder"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert main(["extract", str(policy), "--out", str(out)]) == 1
    assert "holds notes.txt; accepted: a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_changed_connector_is_refused(tmp_path):
    """What was extracted is read as strictly as the policy."""
    out = tmp_path / "encoder"
    extracted(write_smolvla(tmp_path / "policy"), out)
    config = json.loads((out / "config.json").read_text())
    config["connector"]["widths"] = [1000, 48]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="takes 1000 channels and the tower gives 2048"):
        load_checkpoint(str(out))


def test_what_is_no_policy_is_refused(tmp_path, capsys):
    tensors = {name: t for name, t in smolvla_tensors().items() if "vision_model" not in name}
    policy = write(tmp_path / "policy", None, tensors)
    assert main(["extract", str(policy), "--out", str(tmp_path / "out")]) == 1
    assert "accepted: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
