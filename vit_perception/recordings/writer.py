"""Write CDR messages to a rosbag2 folder (MCAP), without ROS."""

from collections.abc import Callable
from pathlib import Path

from rosbags.interfaces import Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from vit_perception.recordings.definitions import typestore


class BagWriter:
    """A new MCAP bag at ``path``; use it in a `with` block.

    ``qos`` returns the profiles that a topic's publishers offered; none are written by default.
    When the block ends, also by an error, what was written so far is a complete bag.
    """

    def __init__(self, path: Path, qos: Callable[[str], list[Qos]] = lambda topic: []):
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._types = typestore()
        self._qos = qos
        self._connections: dict[str, object] = {}

    def __enter__(self) -> "BagWriter":
        self._writer.open()
        return self

    def __exit__(self, *unused) -> None:
        self._writer.close()

    def write(self, topic: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        """Append one message of ``type_name`` (``package/msg/Name``), recorded at ``stamp_ns``."""
        if topic not in self._connections:
            # With the definitions in the bag, whoever opens it needs no others.
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=self._types, offered_qos_profiles=self._qos(topic)
            )
        self._writer.write(self._connections[topic], stamp_ns, data)
