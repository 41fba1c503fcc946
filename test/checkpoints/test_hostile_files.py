"""Weights and descriptions that were made to take memory, time or the process: each ends in one line, at once."""

import bz2
import io
import json
import lzma
import os
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from test.checkpoints.test_formats import WEIGHT, refused, rewritten
from test.checkpoints.test_sources import folder  # noqa: F401 - a fixture
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.formats import read_tensors
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.checkpoints.torch_pickle import pickle_end

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a1' * 32}\nsize 88229444\n"


# -- archives ------------------------------------------------------------------------------------------------------


def lying_archive(path, name, content, method, claimed):
    """An archive whose one entry says that it unpacks to ``claimed`` bytes."""
    packed = {zipfile.ZIP_BZIP2: bz2.compress, zipfile.ZIP_LZMA: lambda c: lzma.compress(c)}.get(method)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24:directory + 28] = struct.pack("<I", claimed)
    data[22:26] = struct.pack("<I", claimed)
    path.write_bytes(data)
    assert packed is None or len(data) < 200_000


@pytest.mark.parametrize("method, name", [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_an_npz_entry_packed_by_what_cannot_be_unpacked_in_pieces(tmp_path, method, name):
    lying_archive(tmp_path / "m.npz", "a.npy", bytes(64 << 20), method, 300)
    refused(tmp_path / "m.npz", f"a.npy is compressed by {name}; accepted: stored or deflate")


def test_a_deflated_npz_entry_that_unpacks_to_more_than_it_says(tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros(16, np.float32))
    lying_archive(tmp_path / "m.npz", "a.npy", array.getvalue() + bytes(256 << 20), zipfile.ZIP_DEFLATED,
                  len(array.getvalue()))
    refused(tmp_path / "m.npz", "m.npz: .*CRC-32")


@pytest.mark.parametrize("method, name", [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma"),
                                          (zipfile.ZIP_DEFLATED, "deflate")])
def test_a_packed_pickle_of_a_torch_archive(tmp_path, method, name):
    lying_archive(tmp_path / "m.pt", "m/data.pkl", b"\x80\x02]" + b"(" * (64 << 20), method, 300)
    refused(tmp_path / "m.pt", f"data.pkl is compressed by {name}; accepted: stored")


def test_members_that_are_bounded_alone_and_not_together(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", **{f"a{index}": np.zeros(100_000, np.float32) for index in range(50)})
    refused(tmp_path / "m.npz", "would unpack to 200[0-9]+; accepted: at most 4 times")


def test_entries_over_each_other(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in ("a.npy", "b.npy"):
            array = io.BytesIO()
            np.save(array, np.arange(16.0))
            archive.writestr(name, array.getvalue())
    data = bytearray((tmp_path / "m.npz").read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 42:directory + 46] = struct.pack("<I", 8)  # b.npy begins inside of a.npy
    (tmp_path / "m.npz").write_bytes(data)
    refused(tmp_path / "m.npz", "lies over another entry; accepted: entries behind each other")


@pytest.mark.parametrize("names, match", [
    ([f"{index}.npy" for index in range(20_001)], "holds 20001 entries; accepted: up to 20000"),
    (["x" * 1001], "an entry's name is 1001 letters long"), (["a.npy", "a"], "two arrays of one name")])
def test_names_of_entries(tmp_path, names, match):
    array = io.BytesIO()
    np.save(array, np.float32(1))
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in names:
            archive.writestr(name, array.getvalue())
    with pytest.raises(CheckpointError, match=match):
        read_tensors(tmp_path / "m.npz")


def test_a_directory_that_says_it_is_gigabytes_long(tmp_path):
    np.savez(tmp_path / "m.npz", a=WEIGHT.numpy())
    data = bytearray((tmp_path / "m.npz").read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12:end + 16] = struct.pack("<I", (1 << 32) - 2)
    (tmp_path / "m.npz").write_bytes(data)
    refused(tmp_path / "m.npz", "accepted: a whole .npz file of numbers")


# -- torch ---------------------------------------------------------------------------------------------------------


class Rebuilt:
    """Pickled, it is a tensor of a storage of 6 numbers with any offset, size and stride."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        offset, size, stride = self.arguments
        return torch._utils._rebuild_tensor_v2, (WEIGHT.flatten().storage(), offset, size, stride, False, {})


@pytest.mark.parametrize("offset, size, stride, match", [
    (0, (1 << 40,), (0,), "more than the file's 24 bytes"), (0, (1 << 20, 1 << 20, 1 << 20), (0, 0, 0), "more than"),
    (0, (4, 3), (3, 1), "more than the file's 24 bytes"), (6, (1,), (1,), "more than the file's 24 bytes"),
    (-1, (2,), (1,), "a tensor with the offset -1"), (0, (2,), (-1,), "a tensor with .* the stride"),
    (0, (-2, -3), (1, 1), "a tensor with .* the size"), (0, (1 << 63,), (1,), "a tensor with .* the size"),
    (0, (2,), (1, 1), "a tensor with .* the stride"), (0, (True,), (1,), "a tensor with .* the size"),
    (0, ("2",), (1,), "a tensor with .* the size"), (0, (1,) * 17, (1,) * 17, "a tensor with .* the size")])
@pytest.mark.parametrize("zipped", [True, False])
def test_views_that_go_beyond_their_storage(tmp_path, offset, size, stride, match, zipped):
    torch.save({"a": Rebuilt(offset, size, stride)}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "m.pt", match)


def test_an_empty_tensor_and_views_of_one_storage(tmp_path):
    torch.save({"empty": torch.zeros(0, 3), "whole": WEIGHT, "turned": WEIGHT.T, "column": WEIGHT[:, 1:2]},
               tmp_path / "m.pt")
    tensors = read_tensors(tmp_path / "m.pt")
    assert tensors["empty"].shape == (0, 3)
    assert torch.equal(tensors["turned"], WEIGHT.T) and torch.equal(tensors["column"], WEIGHT[:, 1:2])


def test_one_storage_a_thousand_times(tmp_path):
    weight = torch.zeros(250_000)
    torch.save({f"a{index}": weight for index in range(1000)}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "its tensors are 1000000000 bytes, many of them the same")


def test_a_storage_shorter_than_its_view_says(tmp_path):
    torch.save({"a": WEIGHT}, tmp_path / "m.pt")
    rewritten(tmp_path / "m.pt", **{"data/0": bytes(20)})
    refused(tmp_path / "m.pt", r"a is \(2, 3\) torch.float32, more than the file's 20 bytes")


def test_an_old_file_whose_storage_says_that_it_is_larger(tmp_path):
    torch.save({"a": WEIGHT}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    data = bytearray((tmp_path / "m.pt").read_bytes())
    data[-32:-24] = struct.pack("<q", 1 << 40)
    (tmp_path / "m.pt").write_bytes(data)
    refused(tmp_path / "m.pt", "the storage .* of 1099511627776 numbers goes beyond the end of the file")


def test_a_big_endian_archive(tmp_path):
    torch.save({"a": WEIGHT}, tmp_path / "m.pt")
    rewritten(tmp_path / "m.pt", byteorder=b"big")
    refused(tmp_path / "m.pt", "not of little-endian order")


def test_parameters_and_tensors_with_attributes(tmp_path):
    parameter = torch.nn.Parameter(WEIGHT.clone())
    parameter.note = "kept by torch"
    torch.save({"plain": torch.nn.Parameter(WEIGHT), "with": parameter}, tmp_path / "m.pt")
    tensors = read_tensors(tmp_path / "m.pt")
    assert torch.equal(tensors["plain"], WEIGHT) and torch.equal(tensors["with"], WEIGHT)


def nested(levels):
    """A pickle of a tuple that holds itself twice, ``levels`` deep, as the key of a dictionary: 2 ** levels hashes."""
    content = b"\x80\x02})q\x00"
    for level in range(levels):
        content += b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) + b"0"
    return content + b"h" + bytes([levels]) + b"Ns."


@pytest.mark.parametrize("content, match", [
    (nested(60), "a tuple of more than 1000 things"), (b"\x80\x02Nr\xff\xff\xff\x7f.", "the place 2147483647"),
    (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", "a number of 63 bits"), (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    (b"\x80\x02I1\n.", "the opcode INT"), (b"\x80\x02" + b"\x8a\x0b" + b"\x7f" * 11 + b".", "a number of 87 bits"),
    (b"\x80\x02N", "exhausted"), (b"\x80\x02" + b"N0" * 500_001 + b".", "more than 1000000 opcodes")],
    ids=range(8))
def test_pickles_that_take_memory_or_time(tmp_path, content, match):
    with pytest.raises(ValueError, match=match):
        pickle_end(content)
    torch.save({"a": WEIGHT}, tmp_path / "m.pt")
    rewritten(tmp_path / "m.pt", data__pkl=content)
    with pytest.raises(CheckpointError, match="m.pt: .*accepted: a torch file of nothing but tensors"):
        read_tensors(tmp_path / "m.pt")


def test_torchs_advice_to_run_what_a_file_holds_reaches_nobody(tmp_path):
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": np.ones(3)}))
    torch.save({"a": WEIGHT, "f": np.float64}, tmp_path / "zip.pt")
    torch.save({"a": WEIGHT, "f": np.float64}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("plain.bin", "zip.pt", "old.pt", "text.pth"):
        assert "weights_only" not in refused(tmp_path / name, "accepted: a torch file of nothing but tensors")


# -- safetensors and HDF5 --------------------------------------------------------------------------------------------


def safetensors_file(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    return path


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize("header, match", [
    (b" " * (17 << 20), "has a header of 17825792 bytes; accepted: up to 16777216"),
    (b'{"a":' + b"[" * 100_000, "its header is no JSON"), (f'{{"a":{ENTRY},"a":{ENTRY}}}'.encode(), "'a' is in it twice"),
    (b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', "'shape' is in it twice"),
    (b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', "its header says of 'a'"),
    (b'{"a":{"dtype":"F32","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,4]}}', "its header says of 'a'"),
    (f'{{"{"n" * 1001}":{ENTRY}}}'.encode(), "a name of at most 1000 letters"), (b"[]", "holds a list"),
    (b'{"__metadata__":{"a":1}}', "__metadata__ in its header"), (b'{"a":1}', "its header says of 'a' 1"),
    (json.dumps({f"a{k}": json.loads(ENTRY) for k in range(20_001)}).encode(), "holds 20001 names; accepted: up to 20000"),
])
def test_headers(tmp_path, header, match):
    with pytest.raises(CheckpointError, match=match):
        read_tensors(safetensors_file(tmp_path / "m.safetensors", header))


def test_a_name_with_codes_for_a_terminal_is_shown_without(tmp_path):
    header = json.dumps({"\x1b[2Ja": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(safetensors_file(tmp_path / "m.safetensors", header[:-1] + b"}" + b" ")))
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
        for name, options in {"gzip": {}, "shuffled": {"shuffle": True}, "sums": {"shuffle": True, "fletcher32": True}
                              }.items():
            file.create_dataset(name, data=values, compression="gzip", chunks=(64, 64), **options)
        file.create_dataset("sums alone", data=values, fletcher32=True, chunks=(64, 64))
    tensors = read_tensors(tmp_path / "m.h5")
    assert len(tensors) == 4 and all(np.array_equal(tensor, values) for tensor in tensors.values())


def test_filters_whose_size_nothing_tells(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", data=np.random.default_rng(0).normal(size=100), compression="lzf")
    refused(tmp_path / "m.h5", r"a is packed by the filters \[32000\] of HDF5; accepted: none, or gzip")


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


# -- what lies in a folder -------------------------------------------------------------------------------------------


FILES = ("model.safetensors", "config.json", "preprocessor_config.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device", "a link to gone"])
def test_what_is_no_file_under_a_files_name(folder, name, kind):  # noqa: F811
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
@pytest.mark.parametrize("content, kind", [(POINTER, "a Git LFS pointer"), ("<!DOCTYPE html><html>Sign in", "an HTML page")])
def test_a_stand_in_is_named(folder, name, content, kind):  # noqa: F811
    (folder / ("model.safetensors" if name not in FILES else name)).unlink()
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} is {kind}, not the file itself"):
        load_checkpoint(str(folder))


def test_a_json_file_of_any_length_is_not_read_whole(folder):  # noqa: F811
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # of nothing: it takes no room on the disk
    with pytest.raises(CheckpointError, match="config.json is longer than 16777216 bytes"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("content, match", [
    (b"GGUF\x03", "m.safetensors is a GGUF file; accepted under this name: a safetensors file"),
    (b"PK\x03\x04", "m.safetensors is a zip archive"), (b"\x80\x02}.", "is a pickle"),
    (b"\x1f\x8b\x08", "is packed by gzip"), (b"\x89HDF\r\n\x1a\n", "is an HDF5 file")])
def test_a_file_of_another_format_than_its_name_says(tmp_path, content, match):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        read_tensors(tmp_path / "m.safetensors")


@pytest.mark.parametrize("places, match", [
    ({"a": "/etc/m.safetensors"}, "names the file '/etc/m.safetensors'; accepted: weights files beside it"),
    ({"a": "x/../m.safetensors"}, "names the file"), ({"a": "m\0.safetensors"}, "names the file"),
    ({"a": "..safetensors/"}, "names the file"), ({"a": ["m.safetensors"]}, "weight_map in .* is"),
    ({"a": "odd.safetensors"}, "odd.safetensors is a FIFO"),
    ({f"a{k}": f"{k}.safetensors" for k in range(501)}, "names 501 tensors in 501 files; accepted: up to"),
    ({f"a{k}": "m.safetensors" for k in range(20_001)}, "names 20001 tensors")])
def test_an_index_that_leaves_the_folder_or_has_no_end(tmp_path, places, match):
    save_file({"a": WEIGHT}, tmp_path / "m.safetensors")
    os.mkfifo(tmp_path / "odd.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(str(tmp_path))
