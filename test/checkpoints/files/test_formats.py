"""Every format of weights file, and files that were made to harm: all end in CheckpointError, and
do nothing.
"""

import argparse
import json
import os
import pickle
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import open_files, weights_in
from vit_perception.checkpoints.files.contents import shape_of
from vit_perception.checkpoints.files.formats import read_contents, read_tensors

WEIGHT = torch.arange(6.0).reshape(2, 3)
BIG = 1 << 30


class Hostile:
    """Unpickling it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(path, match):
    """Reading all of ``path`` ends in CheckpointError naming it, without taking memory."""
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=match) as error:
        read_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.name in str(error.value)
    assert peak < 20e6
    return str(error.value)


# -- safetensors -----------------------------------------------------------------------------------


def test_safetensors_are_mapped_with_their_metadata(tmp_path):
    save_file({"a": WEIGHT}, tmp_path / "m.safetensors", metadata={"format": "pt"})
    contents = read_contents(tmp_path / "m.safetensors")
    assert contents.metadata == {"format": "pt"} and list(contents.tensors) == ["a"]
    assert torch.equal(contents.tensors["a"], WEIGHT)


def test_a_header_that_declares_more_than_the_file_is_refused(tmp_path):
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [BIG], "data_offsets": [0, 4 * BIG]}}
    ).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    refused(tmp_path / "m.safetensors", "accepted: a whole safetensors file")


def shards(folder, **changes):
    save_file({"a": WEIGHT}, folder / "one.safetensors")
    save_file({"b": WEIGHT + 1}, folder / "two.safetensors")
    places = {"a": "one.safetensors", "b": "two.safetensors"} | changes
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder / "model.safetensors.index.json"


def test_a_sharded_checkpoint(tmp_path):
    index = shards(tmp_path)
    assert weights_in(tmp_path) == index
    found = open_files(index, "m", "m")
    assert sorted(found.tensors) == ["a", "b"] and torch.equal(found.tensors["b"], WEIGHT + 1)
    assert [file.name for file in found.weights_files] == ["one.safetensors", "two.safetensors"]
    assert found.suffix == ".safetensors"


@pytest.mark.parametrize(
    "changes, match",
    [
        (
            {"a": "../one.safetensors"},
            r"names the file '../one.safetensors'; accepted: weights files beside it",
        ),
        (
            {"b": "three.safetensors"},
            "no file three.safetensors, which model.safetensors.index.json names",
        ),
        ({"c": "one.safetensors"}, "one.safetensors has no tensor c"),
        ({"b": "one.safetensors"}, "one.safetensors has no tensor b"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path, changes, match):
    with pytest.raises(CheckpointError, match=match):
        open_files(shards(tmp_path, **changes), "m", "m")


def test_a_tensor_that_the_index_forgets_is_named(tmp_path):
    index = shards(tmp_path)
    save_file({"b": WEIGHT, "c": WEIGHT + 1}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match="does not name c in two.safetensors"):
        open_files(index, "m", "m")


# -- torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher", "model_ema"])
def test_wrapped_state_dicts_are_unwrapped_by_the_table(tmp_path, wrapper):
    other = {"student": {"a": WEIGHT * 0}, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save({wrapper: {"a": WEIGHT}, **other}, tmp_path / "m.pth")
    assert torch.equal(read_tensors(tmp_path / "m.pth")["a"], WEIGHT)


def test_the_average_stands_before_what_it_was_made_from(tmp_path):
    torch.save({"model": {"a": WEIGHT * 0}, "model_ema": {"a": WEIGHT}}, tmp_path / "m.pth")
    assert torch.equal(read_tensors(tmp_path / "m.pth")["a"], WEIGHT)


def test_a_wrapper_that_is_not_in_the_table_is_not_guessed(tmp_path):
    torch.save({"network": {"a": WEIGHT}}, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "of other things than tensors; accepted: .*under one of teacher, ")


def test_torch_files_of_both_formats(tmp_path):
    for name, options in (("zip.pt", {}), ("old.pt", {"_use_new_zipfile_serialization": False})):
        torch.save({"a": WEIGHT, "half": WEIGHT.to(torch.bfloat16)}, tmp_path / name, **options)
        tensors = read_tensors(tmp_path / name)
        assert torch.equal(tensors["a"], WEIGHT) and tensors["half"].dtype == torch.bfloat16


def test_a_tensor_larger_than_the_file_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(BIG)}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", r"a is \(1073741824,\) torch.float32, more than the file's")


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_a_truncated_torch_file_is_refused(tmp_path, keep):
    torch.save({"a": WEIGHT}, tmp_path / "m.pt")
    whole = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(whole[:keep])
    refused(tmp_path / "m.pt", "accepted: a torch file of nothing but tensors")


def test_a_zip_bomb_under_a_torch_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(64 << 20))
    refused(tmp_path / "m.pt", "data.pkl is compressed by deflate; accepted: stored")


def test_a_compressed_torch_archive_is_refused(tmp_path):
    """Memory-mapped, its compressed bytes would be the weights."""
    torch.save({"a": WEIGHT}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refused(tmp_path / "m.pt", "data.pkl is compressed by deflate; accepted: stored")


# -- TorchScript -----------------------------------------------------------------------------------


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Parameter(torch.randn(4, 2))
        self.blocks = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
        self.size = 224

    def forward(self, x):
        return self.blocks(x) @ self.proj


def test_a_torchscript_archive_gives_the_state_dict_of_its_module(tmp_path):
    tower = Tower().to(torch.float16)
    torch.jit.script(tower).save(str(tmp_path / "clip.pt"))
    tensors = read_tensors(tmp_path / "clip.pt")
    assert tensors.keys() == tower.state_dict().keys()
    for name, tensor in tower.state_dict().items():
        assert tensors[name].dtype == torch.float16 and torch.equal(tensors[name], tensor)


def rewritten(path, **changes):
    """The archive with the content of some of its entries replaced, by the ends of their names."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(
                name,
                next(
                    (c for end, c in changes.items() if name.endswith(end.replace("__", "."))),
                    content,
                ),
            )


def test_a_hostile_torchscript_archive_runs_nothing(tmp_path):
    path, trap = tmp_path / "clip.pt", tmp_path / "executed"
    torch.jit.script(Tower()).save(str(path))
    rewritten(path, data__pkl=pickle.dumps(Hostile(trap), protocol=2))
    assert "posix.mkdir" in refused(path, "accepted: a torch file of nothing but tensors")
    torch.jit.script(Tower()).save(str(path))
    rewritten(
        path,
        Tower__py=b"import os; os.mkdir('executed')",
        constants__pkl=pickle.dumps(Hostile(trap)),
    )
    assert len(read_tensors(path)) == 5  # neither its code nor its constants are read
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch.jit\nload\nX\x01\x00\x00\x00x\x85R.",
        b"\x80\x02ctorch.jit._pickle\nbuild_intlist\nq\x00.",
        b"\x80\x02]q\x00h\x00a.",
        b"",
        b"\x80\x02N.",
    ],
)
def test_pickles_that_are_no_module_of_tensors_are_refused(tmp_path, content):
    torch.jit.script(Tower()).save(str(tmp_path / "clip.pt"))
    rewritten(tmp_path / "clip.pt", data__pkl=content)
    refused(tmp_path / "clip.pt", "accepted: ")


def test_an_archive_that_refers_to_itself_ends(tmp_path):
    torch.jit.script(Tower()).save(str(tmp_path / "clip.pt"))
    rewritten(tmp_path / "clip.pt", data__pkl=b"\x80\x02}q\x00X\x01\x00\x00\x00xh\x00s.")
    refused(tmp_path / "clip.pt", "deeper than 32")


# -- npz -------------------------------------------------------------------------------------------


def test_npz_by_the_names_of_its_arrays(tmp_path):
    np.savez(
        tmp_path / "m.npz",
        **{"Transformer/norm/scale": WEIGHT.numpy(), "big": WEIGHT.numpy().astype(">f8")},
    )
    tensors = read_tensors(tmp_path / "m.npz")
    assert torch.equal(tensors["Transformer/norm/scale"], WEIGHT)
    assert tensors["big"].dtype == torch.float64 and torch.equal(tensors["big"].float(), WEIGHT)


def test_npz_with_a_pickle_is_refused(tmp_path):
    np.savez(
        tmp_path / "m.npz",
        a=np.array([Hostile(tmp_path / "executed")], dtype=object),
        allow_pickle=True,
    )
    refused(tmp_path / "m.npz", "a.npy is of object, not numbers")
    assert not (tmp_path / "executed").exists()


def test_an_npz_bomb_is_refused_before_it_is_expanded(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", a=np.zeros(16 << 20, np.float32))
    assert (tmp_path / "m.npz").stat().st_size < 100_000
    refused(tmp_path / "m.npz", "would unpack to 67108992; accepted: at most 4 times")


def test_an_array_that_declares_more_than_its_bytes_is_refused(tmp_path):
    header = (
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({BIG},), }}".ljust(117).encode()
        + b"\n"
    )
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr(
            "a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
        )
    refused(
        tmp_path / "m.npz",
        r"a.npy declares \(1073741824,\) float32, which its 144 bytes do not hold",
    )


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_npz_is_refused(tmp_path, keep):
    np.savez(tmp_path / "m.npz", a=WEIGHT.numpy())
    (tmp_path / "m.npz").write_bytes((tmp_path / "m.npz").read_bytes()[:keep])
    refused(tmp_path / "m.npz", "accepted: a whole .npz file of numbers")


def test_a_damaged_array_is_named_when_it_is_read(tmp_path):
    array = np.arange(1e5, dtype=np.float32)  # longer than what its header is read with
    np.savez(tmp_path / "m.npz", a=array)
    content = bytearray((tmp_path / "m.npz").read_bytes())
    content[content.index(array[-100:].tobytes())] ^= 1
    (tmp_path / "m.npz").write_bytes(content)
    refused(tmp_path / "m.npz", "m.npz: a: Bad CRC-32")


# -- all -------------------------------------------------------------------------------------------


def test_a_shape_is_told_without_reading(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a"] = np.ones((500, 1000), np.float32)
    np.savez(tmp_path / "m.npz", a=np.ones((500, 1000), np.float32))
    for name in ("m.h5", "m.npz"):
        tensors = read_contents(tmp_path / name).tensors
        tracemalloc.start()
        assert shape_of(tensors, "a") == (500, 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1e5
