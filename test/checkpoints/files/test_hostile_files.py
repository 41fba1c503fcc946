"""Weights and descriptions that were made to take memory, time or the process: each ends in one
line, at once.
"""

import json
import os

import h5py
import numpy as np
import pytest
from safetensors.torch import save_file

from test.checkpoints.files.test_formats import WEIGHT, refused
from test.checkpoints.test_sources import folder  # noqa: F401 - a fixture
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.formats import read_tensors
from vit_perception.checkpoints.sources import load_checkpoint

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a1' * 32}\nsize 88229444\n"


# -- archives --------------------------------------------------------------------------------------


def safetensors_file(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    return path


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "header, match",
    [
        (b" " * (17 << 20), "has a header of 17825792 bytes; accepted: up to 16777216"),
        (b'{"a":' + b"[" * 100_000, "its header is no JSON"),
        (f'{{"a":{ENTRY},"a":{ENTRY}}}'.encode(), "'a' is in it twice"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}',
            "'shape' is in it twice",
        ),
        (b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', "its header says of 'a'"),
        (
            b'{"a":{"dtype":"F32","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,4]}}',
            "its header says of 'a'",
        ),
        (f'{{"{"n" * 1001}":{ENTRY}}}'.encode(), "a name of at most 1000 letters"),
        (b"[]", "holds a list"),
        (b'{"__metadata__":{"a":1}}', "__metadata__ in its header"),
        (b'{"a":1}', "its header says of 'a' 1"),
        (
            json.dumps({f"a{k}": json.loads(ENTRY) for k in range(20_001)}).encode(),
            "holds 20001 names; accepted: up to 20000",
        ),
    ],
)
def test_headers(tmp_path, header, match):
    with pytest.raises(CheckpointError, match=match):
        read_tensors(safetensors_file(tmp_path / "m.safetensors", header))


def test_a_name_with_codes_for_a_terminal_is_shown_without(tmp_path):
    header = json.dumps(
        {"\x1b[2Ja": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}
    ).encode()
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(
            str(safetensors_file(tmp_path / "m.safetensors", header[:-1] + b"}" + b" "))
        )
    assert "\x1b" not in str(error.value)


def test_a_packed_chunk_that_holds_more_than_a_chunk(tmp_path):
    """The library unpacks all of it: 64 MB here, and a thousand times what is packed."""
    import zlib

    with h5py.File(tmp_path / "m.h5", "w") as file:
        data = file.create_dataset("a", (4096,), "f4", chunks=(4096,), compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes(64 << 20), 9))
    refused(tmp_path / "m.h5", "m.h5: a: a chunk of 16384 bytes would unpack to more")


def test_packed_hdf5_is_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 70)).astype(np.float32)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, options in {
            "gzip": {},
            "shuffled": {"shuffle": True},
            "sums": {"shuffle": True, "fletcher32": True},
        }.items():
            file.create_dataset(name, data=values, compression="gzip", chunks=(64, 64), **options)
        file.create_dataset("sums alone", data=values, fletcher32=True, chunks=(64, 64))
    tensors = read_tensors(tmp_path / "m.h5")
    assert len(tensors) == 4 and all(np.array_equal(tensor, values) for tensor in tensors.values())


def test_filters_whose_size_nothing_tells(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", data=np.random.default_rng(0).normal(size=100), compression="lzf")
    refused(
        tmp_path / "m.h5", r"a is packed by the filters \[32000\] of HDF5; accepted: none, or gzip"
    )


def test_a_damaged_text_on_which_the_library_does_not_come_to_an_end(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file["a"] = [1.0]
    content = bytearray((tmp_path / "m.h5").read_bytes())
    content[content.index(b"GCOL") + 24] = 0x26  # the length of the text
    (tmp_path / "m.h5").write_bytes(content)
    refused(tmp_path / "m.h5", "accepted: a whole HDF5 file of weights")


def test_a_soft_link_to_itself(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a"] = h5py.SoftLink("/a")
    refused(tmp_path / "m.h5", "a is a link to /a")


# -- what lies in a folder -------------------------------------------------------------------------


FILES = ("model.safetensors", "config.json", "preprocessor_config.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device", "a link to gone"])
def test_what_is_no_file_under_a_files_name(folder, name, kind):
    (folder / name).unlink()
    if kind == "a FIFO":
        os.mkfifo(folder / name)
    elif kind == "a folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to("/dev/zero" if kind == "a device" else "gone")
    with pytest.raises(CheckpointError, match=f"{name} is {kind}"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_no_file_as_the_checkpoint_itself(tmp_path, kind):
    os.mkfifo(tmp_path / "m.pt")
    path = tmp_path / "m.pt" if kind == "a FIFO" else "/dev/zero"
    with pytest.raises(CheckpointError, match=f"{path} is {kind}; accepted: a regular file"):
        load_checkpoint(str(path))


@pytest.mark.parametrize("name", [*FILES, "pytorch_model.bin", "mine.npz", "mine.h5", "mine.pth"])
@pytest.mark.parametrize(
    "content, kind",
    [(POINTER, "a Git LFS pointer"), ("<!DOCTYPE html><html>Sign in", "an HTML page")],
)
def test_a_stand_in_is_named(folder, name, content, kind):
    (folder / ("model.safetensors" if name not in FILES else name)).unlink()
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} is {kind}, not the file itself"):
        load_checkpoint(str(folder))


def test_a_json_file_of_any_length_is_not_read_whole(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # of nothing: it takes no room on the disk
    with pytest.raises(CheckpointError, match="config.json is longer than 16777216 bytes"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    "content, match",
    [
        (b"GGUF\x03", "m.safetensors is a GGUF file; accepted under this name: a safetensors file"),
        (b"PK\x03\x04", "m.safetensors is a zip archive"),
        (b"\x80\x02}.", "is a pickle"),
        (b"\x1f\x8b\x08", "is packed by gzip"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    ],
)
def test_a_file_of_another_format_than_its_name_says(tmp_path, content, match):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        read_tensors(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "places, match",
    [
        (
            {"a": "/etc/m.safetensors"},
            "names the file '/etc/m.safetensors'; accepted: weights files beside it",
        ),
        ({"a": "x/../m.safetensors"}, "names the file"),
        ({"a": "m\0.safetensors"}, "names the file"),
        ({"a": "..safetensors/"}, "names the file"),
        ({"a": ["m.safetensors"]}, "weight_map in .* is"),
        ({"a": "odd.safetensors"}, "odd.safetensors is a FIFO"),
        (
            {f"a{k}": f"{k}.safetensors" for k in range(501)},
            "names 501 tensors in 501 files; accepted: up to",
        ),
        ({f"a{k}": "m.safetensors" for k in range(20_001)}, "names 20001 tensors"),
    ],
)
def test_an_index_that_leaves_the_folder_or_has_no_end(tmp_path, places, match):
    save_file({"a": WEIGHT}, tmp_path / "m.safetensors")
    os.mkfifo(tmp_path / "odd.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(str(tmp_path))
