"""HDF5 files: data sets by their paths, and nothing that reads or unpacks more than the file
holds.
"""

import h5py
import numpy as np
import pytest
import torch

from test.checkpoints.files.test_formats import BIG, WEIGHT, refused
from vit_perception.checkpoints.files.formats import read_contents


def test_hdf5_by_the_paths_of_its_data_sets(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_dataset("dense/dense/kernel:0", data=WEIGHT.numpy())
        file.create_dataset("optimizer/iteration", data=np.int64(3))
    contents = read_contents(tmp_path / "m.h5")
    assert contents.metadata == {"model_config": "{}"}
    assert sorted(contents.tensors) == ["dense/dense/kernel:0", "optimizer/iteration"]
    assert torch.equal(contents.tensors["dense/dense/kernel:0"], WEIGHT)
    assert contents.tensors["optimizer/iteration"].item() == 3


def hostile_hdf5(path, kind):
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=WEIGHT.numpy())
        if kind == "external link":
            file["b"] = h5py.ExternalLink("/etc/other.h5", "/x")
        elif kind == "soft link":
            file["b"] = h5py.SoftLink("/a")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=(6,), dtype="f4")
            layout[:] = h5py.VirtualSource("other.h5", "x", shape=(6,))
            file.create_virtual_dataset("b", layout)
        elif kind == "external storage":
            file.create_dataset("b", (4,), "f4", external=[("/etc/passwd", 0, 16)])
        elif kind == "strings":
            file["b"] = ["text"]
        elif kind == "bomb":
            file.create_dataset(
                "b", data=np.zeros(8 << 20, np.float32), compression="gzip", chunks=(1 << 20,)
            )
        elif kind == "unwritten":
            file.create_dataset("b", (BIG,), "f4", chunks=(1 << 20,))
        elif kind == "cycle":
            file.create_group("g")["h"] = file["/"]


@pytest.mark.parametrize(
    "kind, match",
    [
        ("external link", "b is a link to /etc/other.h5/x"),
        ("soft link", "b is a link to /a"),
        ("virtual", "b is kept in other files"),
        ("external storage", "b is kept in other files"),
        ("strings", "b is of object; accepted: numbers"),
        ("bomb", r"b would unpack from \d+ bytes to 33554432"),
        ("unwritten", "b would unpack from 0 bytes to 4294967296"),
        ("cycle", "g/h is in the file twice"),
    ],
)
def test_hdf5_that_reads_what_it_does_not_hold_is_refused(tmp_path, kind, match):
    hostile_hdf5(tmp_path / "m.h5", kind)
    refused(tmp_path / "m.h5", match)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_hdf5_is_refused(tmp_path, keep):
    hostile_hdf5(tmp_path / "m.h5", "none")
    (tmp_path / "m.h5").write_bytes((tmp_path / "m.h5").read_bytes()[:keep])
    refused(tmp_path / "m.h5", "accepted: a whole HDF5 file of weights")


def test_an_hdf5_data_set_under_two_names_is_refused(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        held = file.create_dataset("base/kernel:0", data=np.ones(1000, np.float32))
        for index in range(300):
            file[f"x{index}/kernel:0"] = held
    refused(tmp_path / "m.h5", "kernel:0 is in the file twice")
