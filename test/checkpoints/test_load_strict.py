"""Nothing that does not fit is loaded, and the message holds everything that does not fit."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from test.checkpoints.policies.sparse_files import file_bytes_in_this_process
from vit_perception.checkpoints.errors import CheckpointError, side_by_side
from vit_perception.checkpoints.files.formats import read_tensors
from vit_perception.checkpoints.load_strict import build_strict, load_strict
from vit_perception.files.atomic import file_sha256
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

TEST = VARIANTS["test"]


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in VisionTransformer(TEST).state_dict().items()}


def refusal(tensors, **options) -> str:
    with pytest.raises(CheckpointError) as error:
        build_strict(TEST, tensors, "model.safetensors", **options)
    return str(error.value)


def test_weights_are_taken_over_as_float32():
    given = {name: tensor.to(torch.float16) for name, tensor in weights().items()}
    model = build_strict(TEST, given, "model.safetensors")
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        assert torch.equal(tensor, given[name].float())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the list of mappings is Linux's")
def test_pages_of_bfloat16_go_back_as_they_are_cast(tmp_path):
    """Before the digest of the file is made: a policy of bfloat16 took half as much memory more."""
    half = {"weight": torch.randn(4096, 4096).to(torch.bfloat16)}
    save_file(half, tmp_path / "model.safetensors")
    before = file_bytes_in_this_process()
    given = read_tensors(tmp_path / "model.safetensors")
    model = torch.nn.Linear(4096, 4096, bias=False, device="meta")
    load_strict(model, given, "model.safetensors")
    assert file_bytes_in_this_process() - before < half["weight"].nbytes / 2
    assert torch.equal(model.weight, half["weight"].float())
    assert torch.equal(given["weight"], half["weight"])  # read anew


def test_missing_unexpected_and_misshaped_stand_side_by_side():
    given = weights()
    norm = given.pop("norm.weight")
    given["final_norm.weight"] = norm
    given["cls_token"] = torch.zeros(1, 1, 16)
    message = refusal(given, unexpected={"decoder.bias": (3,)})
    assert message.startswith(
        "model.safetensors does not fit the model: 1 missing, 2 unexpected, 1 mis-shaped"
    )
    rows = [[cell.strip() for cell in line.split("|")] for line in message.splitlines()[1:]]
    assert rows == [
        ["missing in the file", "unexpected in the file"],
        ["norm.weight (32,)", "final_norm.weight (32,)"],
        ["", "decoder.bias (3,)"],
        ["mis-shaped: the model's", "the file's"],
        ["cls_token (1, 1, 32)", "cls_token (1, 1, 16)"],
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_nan_names_its_tensor(bad):
    given = weights()
    given["blocks.1.mlp.up.bias"][3] = bad
    assert "blocks.1.mlp.up.bias holds NaN or infinity; accepted: finite weights" in refusal(given)


def test_integer_weights_are_refused():
    given = weights()
    given["norm.bias"] = given["norm.bias"].to(torch.int8)
    assert "norm.bias is of torch.int8; accepted: floating point" in refusal(given)


def test_a_refused_model_is_unchanged():
    model, given = VisionTransformer(TEST), weights()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given["norm.bias"][0] = float("nan")
    with pytest.raises(CheckpointError):
        load_strict(model, given, "model.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Hostile:
    """Unpickling it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_is_refused_unopened(tmp_path):
    trap = tmp_path / "executed"
    torch.save({"norm.weight": Hostile(trap)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Hostile(trap), protocol=2))
    for name in ("pytorch_model.bin", "plain.bin"):
        with pytest.raises(
            CheckpointError, match=f"{name}: .*accepted: a torch file of nothing but tensors"
        ):
            read_tensors(tmp_path / name)
    assert not trap.exists()


def test_torch_files_of_tensors_are_read_and_others_named(tmp_path):
    torch.save(weights(), tmp_path / "pytorch_model.bin")
    assert read_tensors(tmp_path / "pytorch_model.bin").keys() == weights().keys()
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt holds a dict of other things than tensors"):
        read_tensors(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list.pt holds a list"):
        read_tensors(tmp_path / "list.pt")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match="model.safetensors: .*accepted: a whole safetensors file"
    ):
        read_tensors(path)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match="ends in '.ckpt'; accepted: .safetensors, .bin, .pt, .pth, .npz, .h5"
    ):
        read_tensors(tmp_path / "weights.ckpt")


def test_columns_and_digest(tmp_path):
    assert side_by_side("a", [], "b", []) == []
    assert side_by_side("left", ["x"], "right", ["y", "z"]) == [
        "  left | right",
        "  x    | y",
        "       | z",
    ]
    (tmp_path / "file").write_bytes(b"abc")
    assert (
        file_sha256(tmp_path / "file")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_of_many_missing_tensors_the_first_are_printed_and_how_many_more():
    lines = side_by_side("missing", [f"a{index}" for index in range(1000)], "unexpected", ["b"])
    assert (
        len(lines) == 42
        and lines[40].split() == ["a39", "|"]
        and lines[41].split()[:3] == ["and", "960", "more"]
    )
