"""Check that a path is a bag of ROS 2, or say in one line what it is instead."""

import shlex
from pathlib import Path

from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.storage import shown, some_of

BAG_SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"
ACCEPTED = "a rosbag2 folder with metadata.yaml, or one .mcap or .db3 file of it"
ROS1_MAGIC = b"#ROSBAG V"
MCAP_MAGIC = b"\x89MCAP0\r\n"


class BagError(InvalidValue):
    """A bag cannot be read; the message names the path or topic and what is accepted."""


def check_recording(path: Path) -> None:
    """Check that ``path`` is a rosbag2 folder, or a file of one.

    Raises:
        BagError: it is something else.
    """
    if not path.exists():
        raise BagError(f"no bag at {path}; accepted: {ACCEPTED}")
    if path.is_dir():
        _check_folder(path)
    elif is_ros1(path):
        raise BagError(
            f"{path} is a recording of ROS 1; accepted: {ACCEPTED}, as `{_conversion(path)}` makes "
            "one"
        )
    elif not path.is_file() or path.suffix not in BAG_SUFFIXES:
        raise BagError(f"{path} is no bag; accepted: {ACCEPTED}")
    elif path.stat().st_size == 0:
        raise BagError(f"{path} is an empty file; accepted: {ACCEPTED}")


def _check_folder(folder: Path) -> None:
    if (folder / "metadata.yaml").is_file():
        return
    names = sorted(p.name for p in folder.iterdir())
    if not names:
        raise BagError(f"{folder} is an empty folder; accepted: {ACCEPTED}")
    check_no_loose_bag(folder)
    raise BagError(
        f"{folder} is no bag: it has no metadata.yaml, but {some_of(names, 3)}; accepted: "
        f"{ACCEPTED}"
    )


def check_no_loose_bag(folder: Path) -> None:
    """Check that ``folder`` is not a rosbag2 folder that lacks its metadata.yaml.

    Raises:
        BagError: it holds files of a recording; the message names them.
    """
    if not folder.is_dir() or (folder / "metadata.yaml").is_file():
        return
    loose = sorted(p.name for p in folder.iterdir() if p.suffix in BAG_SUFFIXES)
    if loose:
        raise BagError(
            f"{folder} is a bag without metadata.yaml; accepted: the whole folder (`ros2 bag "
            f"reindex {folder}` writes the file anew), or a file of it: {some_of(loose, 3)}"
        )
    if old := sorted(p for p in folder.iterdir() if p.suffix == ".bag" and p.is_file()):
        raise BagError(
            f"{folder} holds recordings of ROS 1 ({some_of([p.name for p in old], 3)}); accepted: "
            f"{ACCEPTED}, as `{_conversion(old[0])}` makes one"
        )


def _conversion(old: Path) -> str:
    """Return the command of the library rosbags that converts ``old``.

    The command recognises a file of ROS 1 by its suffix.
    """
    if old.suffix != ".bag":
        return "rosbags-convert --src FILE.bag --dst FOLDER"
    return (
        f"rosbags-convert --src {shlex.quote(str(old))} --dst "
        f"{shlex.quote(str(old.with_suffix('')))}"
    )


def is_bag(path: Path) -> bool:
    """Whether ``path`` looks like a recording."""
    return (path / METADATA).is_file() or path.suffix in BAG_SUFFIXES or is_ros1(path)


def is_ros1(path: Path) -> bool:
    """Whether the file ``path`` is a bag of ROS 1, by its name or its first bytes."""
    if not path.is_file():
        return False
    if path.suffix == ".bag":
        return True
    with open(path, "rb") as file:
        return file.read(len(ROS1_MAGIC)) == ROS1_MAGIC


def cut_off(path: Path) -> str:
    """Return `` (...)`` with the first file of an unreadable recording that ends early, or ""."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in filter(Path.is_file, files):  # opening a FIFO would wait for somebody who writes
        if file.suffix == ".mcap" and _mcap_is_cut(file):
            return (
                f" ({shown(file.name)} is cut off, as by a recorder that was killed: `mcap "
                "recover` saves what there is)"
            )
        if file.suffix == ".db3" and (size := _size_of_database(file)) > file.stat().st_size:
            return f" ({shown(file.name)} is cut off: {file.stat().st_size} of {size} bytes)"
    return ""


def _mcap_is_cut(file: Path) -> bool:
    """Whether a file begins as an MCAP file and does not end as one (https://mcap.dev/spec)."""
    with open(file, "rb") as content:
        begins = content.read(len(MCAP_MAGIC)) == MCAP_MAGIC
        content.seek(max(0, file.stat().st_size - len(MCAP_MAGIC)))
        return begins and content.read() != MCAP_MAGIC


def _size_of_database(file: Path) -> int:
    """Return the size in bytes that a SQLite database states; 0 for another file.

    Format: https://www.sqlite.org/fileformat.html
    """
    with open(file, "rb") as content:
        header = content.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return 0
    page_bytes = int.from_bytes(header[16:18], "big")
    return (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
