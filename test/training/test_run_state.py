import os
import stat
import zipfile

import pytest
import torch

from vit_perception.training.run_state import (
    OutputError,
    load_state,
    only_run_in,
    require_new_or_resume,
    require_room,
    save_state,
    write_whole,
)


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "x").write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"x cannot be written: .*No space left.* MB are free"):
        write_whole(tmp_path / "x", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


def test_a_full_device_is_said(tmp_path):
    """/dev/full is a device that is always full."""

    def to_full(path):
        path.unlink()
        path.symlink_to("/dev/full")
        save_to = path.open("wb")
        with save_to:
            save_to.write(b"x" * 100)

    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(tmp_path / "x", to_full)


def test_written_files_are_readable_as_the_umask_says(tmp_path):
    def private(path):
        path.write_text("x")
        path.chmod(0o600)

    write_whole(tmp_path / "x", private)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_a_state_comes_back_only_to_the_run_that_it_is_of(tmp_path):
    identity = {"epochs": 3, "labels": "can, cup"}
    assert load_state(tmp_path, identity) is None
    save_state(
        tmp_path, {"identity": identity, "history": [{"epoch": 1}], "model": {"w": torch.ones(2)}}
    )
    state = load_state(tmp_path, identity)
    assert state["history"] == [{"epoch": 1}] and torch.equal(state["model"]["w"], torch.ones(2))
    with pytest.raises(
        ValueError, match=r"is another run.*\n  labels: 'can, cup' then, 'can, cup, pot' now"
    ) as error:
        load_state(tmp_path, identity | {"labels": "can, cup, pot"})
    assert "epochs" not in str(error.value).splitlines()[1]


@pytest.mark.parametrize("damage", ["cut", "text", "hostile", "packed"])
def test_a_damaged_or_hostile_state_is_refused(tmp_path, damage):
    save_state(tmp_path, {"identity": {}, "model": {"w": torch.ones(100)}})
    file = tmp_path / "run_state.pt"
    if damage == "hostile":
        torch.save({"format": 1, "identity": Hostile(tmp_path / "ran")}, file)
    elif damage == "packed":
        with (
            zipfile.ZipFile(file) as stored,
            zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
        (tmp_path / "packed").rename(file)
    else:
        file.write_bytes(file.read_bytes()[:300] if damage == "cut" else b"no state")
    with pytest.raises(ValueError, match="run_state.pt: .*; accepted: the state of a run"):
        load_state(tmp_path, {})
    assert not (tmp_path / "ran").exists()


class Hostile:
    """A pickle that makes a file when it is opened by the ordinary unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_two_runs_never_share_a_folder_and_leftovers_of_a_kill_are_removed(tmp_path):
    out = tmp_path / "new" / "out"
    with only_run_in(out), pytest.raises(OutputError, match="another run writes to"):
        with only_run_in(out):
            pass
    (out / ".model.safetensors.partial").write_text("half")
    (out / ".film.mkv.partial").write_text("somebody else's")
    with only_run_in(out):
        assert sorted(p.name for p in out.iterdir()) == [".film.mkv.partial", "run.lock"]
        (out / ".film.mkv.partial").unlink()
        require_new_or_resume(out, resume=False)
        require_new_or_resume(out, resume=True)


def test_what_is_in_the_folder_is_never_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(
        ValueError, match="out: .* holds thesis.txt; accepted: a new or an empty folder$"
    ):
        require_new_or_resume(tmp_path, resume=False)
    with pytest.raises(ValueError, match="resume: .* holds thesis.txt and no run_state.pt"):
        require_new_or_resume(tmp_path, resume=True)
    save_state(tmp_path, {"identity": {}})
    with pytest.raises(ValueError, match="out: .* holds a run; accepted: a new") as caught:
        require_new_or_resume(tmp_path, resume=False)
    assert caught.value.hint_argument == "resume"
    require_new_or_resume(tmp_path, resume=True)


def test_a_folder_that_cannot_be_made_and_a_disk_that_is_too_small_are_said_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="out: .*file/out cannot be written"):
        with only_run_in(tmp_path / "file" / "out"):
            pass
    require_room(tmp_path, 1000)
    with pytest.raises(
        OutputError, match=r"MB free; accepted: \d+ MB, for a model of 1000000000.0 M parameters"
    ):
        require_room(tmp_path, 10**15)
