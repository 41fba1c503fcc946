"""The metadata.yaml of a rosbag2 folder: its files, their compression, and their contents."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from vit_perception.files.regular_files import check_regular
from vit_perception.files.yaml_files import load_yaml
from vit_perception.recordings.storage import Unreadable, shown, some_of

NEWEST_VERSION = 9
MOST_METADATA_BYTES = 16 << 20


@dataclass(frozen=True)
class BagFolder:
    """What a metadata.yaml says. The files may say something else."""

    files: list[Path]  # in the order of recording
    storage: str  # sqlite3, mcap, or another one
    compression: str  # of whole files ("file"), of each "message", or ""
    counts: dict[str, int]  # number of messages by topic
    qos: dict[str, Any]  # the profiles that its publishers offered, by topic: YAML, or parsed


def read_folder(folder: Path) -> BagFolder:
    """Read the metadata.yaml of ``folder``.

    Raises:
        Unreadable: a value of it cannot be used.
        InvalidValue: it is not YAML that can be read.
    """
    content = load_yaml(folder / "metadata.yaml", MOST_METADATA_BYTES)
    said = _of(content, "rosbag2_bagfile_information", dict)
    version = _of(said, "version", int)
    if version > NEWEST_VERSION:
        raise Unreadable(
            f"its metadata.yaml is of version {version}; accepted: up to {NEWEST_VERSION}"
        )
    compression = _packed(said)
    topics = _of(said, "topics_with_message_count", list, [])
    counts: dict[str, int] = {}
    qos: dict[str, Any] = {}
    for entry in topics:
        topic = _of(_of(entry, "topic_metadata", dict), "name", str)
        count = entry.get("message_count")
        if type(count) is int and count >= 0:
            counts[topic] = counts.get(topic, 0) + count
        qos.setdefault(topic, entry["topic_metadata"].get("offered_qos_profiles", ""))
    return BagFolder(
        files=_files(folder, said),
        storage=_of(said, "storage_identifier", str),
        compression=compression,
        counts=counts,
        qos=qos,
    )


def _packed(said: dict) -> str:
    compression = _of(said, "compression_mode", str, "").lower()
    compression = "" if compression == "none" else compression
    if compression not in ("", "file", "message"):
        raise Unreadable(
            f"its compression_mode is {shown(compression)!r}; accepted: none, file, message"
        )
    if compression and (form := _of(said, "compression_format", str, "")) != "zstd":
        raise Unreadable(f"its compression_format is {shown(form)!r}; accepted: zstd")
    return compression


def _files(folder: Path, said: dict) -> list[Path]:
    """Return the files. All are in the folder itself.

    Older versions also wrote the folder's name, as it was when recording.
    """
    files: list[Path] = []
    for given in _of(said, "relative_file_paths", list):
        if (
            not isinstance(given, str)
            or ".." in PurePath(given).parts
            or not PurePath(given).name
            or "\0" in given
        ):
            raise Unreadable(
                f"its metadata.yaml names the file {shown(repr(given))}; accepted: names of files "
                "in the folder"
            )
        file = folder / PurePath(given).name
        if file in files:
            raise Unreadable(f"its metadata.yaml names {shown(file.name)} twice")
        files.append(file)
    if missing := [file.name for file in files if not os.path.exists(file)]:
        raise Unreadable(f"files that its metadata.yaml names are missing: {some_of(missing, 3)}")
    for file in files:
        check_regular(file)
    return files


def _of(mapping: Any, key: str, kind: type, otherwise: Any = None) -> Any:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    value = otherwise if value is None else value
    if type(value) is not kind:
        raise Unreadable(
            f"its metadata.yaml has {'no' if value is None else 'a wrong'} {key}; accepted: "
            f"{ {dict: 'a group', int: 'a number', str: 'a text', list: 'a list'}[kind] }"
        )
    return value
