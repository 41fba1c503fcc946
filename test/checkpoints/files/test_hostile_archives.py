"""Archives of NumPy and torch, and their pickles, that lie or take memory and time."""

import bz2
import io
import lzma
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from test.checkpoints.files.test_formats import WEIGHT, refused, rewritten
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.formats import read_tensors
from vit_perception.checkpoints.files.pickle_guard import pickle_end

# -- archives --------------------------------------------------------------------------------------


def lying_archive(path, name, content, method, claimed):
    """An archive whose one entry says that it unpacks to ``claimed`` bytes."""
    packed = {zipfile.ZIP_BZIP2: bz2.compress, zipfile.ZIP_LZMA: lambda c: lzma.compress(c)}.get(
        method
    )
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", claimed)
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
    lying_archive(
        tmp_path / "m.npz",
        "a.npy",
        array.getvalue() + bytes(256 << 20),
        zipfile.ZIP_DEFLATED,
        len(array.getvalue()),
    )
    refused(tmp_path / "m.npz", "m.npz: .*CRC-32")


@pytest.mark.parametrize(
    "method, name",
    [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma"), (zipfile.ZIP_DEFLATED, "deflate")],
)
def test_a_packed_pickle_of_a_torch_archive(tmp_path, method, name):
    lying_archive(tmp_path / "m.pt", "m/data.pkl", b"\x80\x02]" + b"(" * (64 << 20), method, 300)
    refused(tmp_path / "m.pt", f"data.pkl is compressed by {name}; accepted: stored")


def test_members_that_are_bounded_alone_and_not_together(tmp_path):
    np.savez_compressed(
        tmp_path / "m.npz", **{f"a{index}": np.zeros(100_000, np.float32) for index in range(50)}
    )
    refused(tmp_path / "m.npz", "would unpack to 200[0-9]+; accepted: at most 4 times")


def test_entries_over_each_other(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in ("a.npy", "b.npy"):
            array = io.BytesIO()
            np.save(array, np.arange(16.0))
            archive.writestr(name, array.getvalue())
    data = bytearray((tmp_path / "m.npz").read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 42 : directory + 46] = struct.pack("<I", 8)  # b.npy begins inside of a.npy
    (tmp_path / "m.npz").write_bytes(data)
    refused(tmp_path / "m.npz", "lies over another entry; accepted: entries behind each other")


@pytest.mark.parametrize(
    "names, match",
    [
        ([f"{index}.npy" for index in range(20_001)], "holds 20001 entries; accepted: up to 20000"),
        (["x" * 1001], "an entry's name is 1001 letters long"),
        (["a.npy", "a"], "two arrays of one name"),
    ],
)
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
    data[end + 12 : end + 16] = struct.pack("<I", (1 << 32) - 2)
    (tmp_path / "m.npz").write_bytes(data)
    refused(tmp_path / "m.npz", "accepted: a whole .npz file of numbers")


# -- torch -----------------------------------------------------------------------------------------


class Rebuilt:
    """Pickled, it is a tensor of a storage of 6 numbers with any offset, size and stride."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        offset, size, stride = self.arguments
        return torch._utils._rebuild_tensor_v2, (
            WEIGHT.flatten().storage(),
            offset,
            size,
            stride,
            False,
            {},
        )


@pytest.mark.parametrize(
    "offset, size, stride, match",
    [
        (0, (1 << 40,), (0,), "more than the file's 24 bytes"),
        (0, (1 << 20, 1 << 20, 1 << 20), (0, 0, 0), "more than"),
        (0, (4, 3), (3, 1), "more than the file's 24 bytes"),
        (6, (1,), (1,), "more than the file's 24 bytes"),
        (-1, (2,), (1,), "a tensor with the offset -1"),
        (0, (2,), (-1,), "a tensor with .* the stride"),
        (0, (-2, -3), (1, 1), "a tensor with .* the size"),
        (0, (1 << 63,), (1,), "a tensor with .* the size"),
        (0, (2,), (1, 1), "a tensor with .* the stride"),
        (0, (True,), (1,), "a tensor with .* the size"),
        (0, ("2",), (1,), "a tensor with .* the size"),
        (0, (1,) * 17, (1,) * 17, "a tensor with .* the size"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_views_that_go_beyond_their_storage(tmp_path, offset, size, stride, match, zipped):
    torch.save(
        {"a": Rebuilt(offset, size, stride)},
        tmp_path / "m.pt",
        _use_new_zipfile_serialization=zipped,
    )
    refused(tmp_path / "m.pt", match)


def test_an_empty_tensor_and_views_of_one_storage(tmp_path):
    torch.save(
        {"empty": torch.zeros(0, 3), "whole": WEIGHT, "turned": WEIGHT.T, "column": WEIGHT[:, 1:2]},
        tmp_path / "m.pt",
    )
    tensors = read_tensors(tmp_path / "m.pt")
    assert tensors["empty"].shape == (0, 3)
    assert torch.equal(tensors["turned"], WEIGHT.T) and torch.equal(
        tensors["column"], WEIGHT[:, 1:2]
    )


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
    refused(
        tmp_path / "m.pt", "the storage .* of 1099511627776 numbers goes beyond the end of the file"
    )


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
    """A pickle of a tuple that holds itself twice, ``levels`` deep, as the key of a dictionary: 2
    ** levels hashes.
    """
    content = b"\x80\x02})q\x00"
    for level in range(levels):
        content += (
            b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) + b"0"
        )
    return content + b"h" + bytes([levels]) + b"Ns."


@pytest.mark.parametrize(
    "content, match",
    [
        (nested(60), "a tuple of more than 1000 things"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "the place 2147483647"),
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", "a number of 63 bits"),
        (b"\x80\x02\x82\x01.", "the opcode EXT1"),
        (b"\x80\x02I1\n.", "the opcode INT"),
        (b"\x80\x02" + b"\x8a\x0b" + b"\x7f" * 11 + b".", "a number of 87 bits"),
        (b"\x80\x02N", "exhausted"),
        (b"\x80\x02" + b"N0" * 500_001 + b".", "more than 1000000 opcodes"),
    ],
    ids=range(8),
)
def test_pickles_that_take_memory_or_time(tmp_path, content, match):
    with pytest.raises(ValueError, match=match):
        pickle_end(content)
    torch.save({"a": WEIGHT}, tmp_path / "m.pt")
    rewritten(tmp_path / "m.pt", data__pkl=content)
    with pytest.raises(
        CheckpointError, match="m.pt: .*accepted: a torch file of nothing but tensors"
    ):
        read_tensors(tmp_path / "m.pt")


def test_torchs_advice_to_run_what_a_file_holds_reaches_nobody(tmp_path):
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": np.ones(3)}))
    torch.save({"a": WEIGHT, "f": np.float64}, tmp_path / "zip.pt")
    torch.save(
        {"a": WEIGHT, "f": np.float64}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("plain.bin", "zip.pt", "old.pt", "text.pth"):
        assert "weights_only" not in refused(
            tmp_path / name, "accepted: a torch file of nothing but tensors"
        )


# -- safetensors and HDF5 --------------------------------------------------------------------------
