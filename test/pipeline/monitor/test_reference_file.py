"""The file of a reference: what is written is read, and nothing else is."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from test.pipeline.monitor.references import camera_reference
from vit_perception.files.errors import InvalidValue
from vit_perception.files.safetensors_header import read_header
from vit_perception.pipeline.monitor import reference_file as module
from vit_perception.pipeline.monitor.reference import Reference
from vit_perception.pipeline.monitor.reference_file import (
    FILE_NAME,
    load_reference,
    save_reference,
)


@pytest.fixture
def folder(tmp_path):
    cameras = {"wrist": camera_reference(rotation_gain=2.5), "front": camera_reference()}
    save_reference(tmp_path / "new" / "reference", Reference(cameras, "abc", "tiny"))
    return tmp_path / "new" / "reference"


def test_what_is_written_is_read(folder):
    found = load_reference(folder)
    assert (found.encoder_sha256, found.model, set(found.cameras)) == (
        "abc",
        "tiny",
        {"wrist", "front"},
    )
    made, read = camera_reference(), found.cameras["wrist"]
    assert read.view == made.view and read.rotation_gain == 2.5
    assert read.static.dtype == bool
    for name in module._ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert len(found.sha256) == 64
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_equal_references_have_equal_files(folder, tmp_path):
    reference = load_reference(folder)
    for name in "abc":
        save_reference(tmp_path / name, reference)
        assert load_reference(tmp_path / name).sha256 == reference.sha256


def rewritten(folder, change):
    """Write the file again after ``change(tensors, about)``."""
    path = folder / FILE_NAME
    tensors = load_file(path)
    about = json.loads(read_header(path).metadata["reference"])
    text = change(tensors, about)
    save_file(tensors, path, {"reference": text if isinstance(text, str) else json.dumps(about)})


def other_cameras(change):
    return lambda _, about: change(about["cameras"]) and None


def put(name, array):
    return lambda tensors, _: tensors.__setitem__(name, np.asarray(array, np.float32))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda _, a: a.update(format="vit_perception.basis"), "'vit_perception.basis', 1"),
        (lambda _, a: a.update(format_version=2), "'vit_perception.reference', 2"),
        (lambda _, a: "{", "cannot be used: Expecting property name"),
        (lambda _, a: "[" * 100_000, "cannot be used"),
        (lambda _, a: "[]", r"its metadata is \[\]"),
        (lambda _, a: "", "0 characters"),
        (lambda _, a: " " * (1 << 20) + "{}", "1048578 characters"),
        (lambda _, a: a.update(cameras={}), "accepted: 1 to 32 by name"),
        (lambda _, a: a.update(cameras=3), "accepted: 1 to 32 by name"),
        (lambda t, _: t.pop("front/typical"), "other tensors than"),
        (put("front/limits", [1, 2]), "limits has shape .2,.; accepted: .3,."),
        (put("front/limits", [1, 0, 1]), "not above 0"),
        (put("front/limits", [1, np.nan, 1]), "holds nan"),
        (put("front/held_out", [2, 1]), "held_out is not sorted"),
        (put("front/background", np.zeros((80, 5))), "background has shape"),
        (put("front/prototypes", np.zeros((5000, 2))), "5000 prototypes; accepted: up to 4096"),
        (other_cameras(lambda c: c["front"].update(grid=[1 << 20, 1 << 20])), "cannot be used"),
        (other_cameras(lambda c: c["front"].update(grid=[True, 80])), "cannot be used"),
        (other_cameras(lambda c: c["front"].update(scale=[0, 1])), "cannot be used"),
        (other_cameras(lambda c: c["front"].update(scale=[1e400, 1])), "cannot be used"),
        (other_cameras(lambda c: c["front"].update(scale=1)), "cannot be used"),
        (other_cameras(lambda c: c["front"].pop("patch_size_px")), "cannot be used"),
        (other_cameras(lambda c: c["front"].update(rotation_gain=1e9)), "rotation_gain"),
        (other_cameras(lambda c: c.update(front=3)), "cannot be used"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused_by_name(folder, change, says):
    rewritten(folder, change)
    with pytest.raises(InvalidValue, match=says) as caught:
        load_reference(folder)
    assert str(folder / FILE_NAME) in str(caught.value) and "accepted" in str(caught.value)


def test_a_camera_whose_name_is_no_topic_is_refused(folder):
    def renamed(tensors, about):
        for name in [name for name in tensors if name.startswith("front/")]:
            tensors["../x" + name.removeprefix("front")] = tensors.pop(name)
        about["cameras"]["../x"] = about["cameras"].pop("front")

    rewritten(folder, renamed)
    with pytest.raises(InvalidValue, match="a letter followed by letters"):
        load_reference(folder)


def test_a_file_that_is_missing_cut_or_too_large_is_refused(folder, monkeypatch, tmp_path):
    with pytest.raises(InvalidValue, match=r"cannot be read .*accepted: a folder of"):
        load_reference(tmp_path / "none")
    path = folder / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidValue, match="no whole safetensors file"):
        load_reference(folder)
    path.write_bytes((1 << 60).to_bytes(8, "little") + content[8:])
    with pytest.raises(InvalidValue, match="no whole safetensors file"):
        load_reference(folder)
    path.write_bytes(content)
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(InvalidValue, match="accepted: up to 1000"):
        load_reference(folder)
