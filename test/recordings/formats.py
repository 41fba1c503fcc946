"""Every format of recordings, written by the library rosbags."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_KILTED)
# The demo recording's first 200 ms, written by another tool; README.md there names it.
OTHER_TOOL = Path(__file__).parent / "recordings"


class Format(NamedTuple):
    """How a bag is stored."""

    plugin: StoragePlugin
    mode: CompressionMode = CompressionMode.NONE


class Message(NamedTuple):
    """One message to be recorded."""

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes


FORMATS = {
    "mcap": Format(StoragePlugin.MCAP),
    "mcap, packed chunks": Format(StoragePlugin.MCAP, CompressionMode.STORAGE),
    "mcap, packed messages": Format(StoragePlugin.MCAP, CompressionMode.MESSAGE),
    "mcap, packed file": Format(StoragePlugin.MCAP, CompressionMode.FILE),
    "sqlite3": Format(StoragePlugin.SQLITE3),
    "sqlite3, packed messages": Format(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "sqlite3, packed file": Format(StoragePlugin.SQLITE3, CompressionMode.FILE),
}


def recorded(
    folder: Path,
    messages: Iterable[Message],
    form: Format = FORMATS["mcap"],
    version: int = 9,
    serializations: dict[str, str] | None = None,
) -> Path:
    """``messages`` as rosbags itself writes them; ``serializations`` by topic, else cdr."""
    writer = Writer(folder, version=version, storage_plugin=form.plugin)
    if form.mode is not CompressionMode.NONE:
        writer.set_compression(form.mode, CompressionFormat.ZSTD)
    topics = {}
    with writer:
        for message in messages:
            if message.topic not in topics:
                topics[message.topic] = writer.add_connection(
                    message.topic,
                    message.type_name,
                    typestore=STORE,
                    serialization_format=(serializations or {}).get(message.topic, "cdr"),
                )
            writer.write(topics[message.topic], message.stamp_ns, message.data)
    return folder


def file_of(folder: Path) -> Path:
    """The one file of the bag in ``folder``."""
    (file,) = (path for path in folder.iterdir() if path.name != "metadata.yaml")
    return file
