"""Write messages to a rosbag2 folder (MCAP) as the CDR bytes they came in, without ROS."""

from collections.abc import Callable
from pathlib import Path

from rosbags.interfaces import Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from vit_perception.recordings.definitions import typestore


class BagWriter:
    """An MCAP bag at ``path``, which must not exist yet: ``with BagWriter(path) as bag:
    bag.write(...)``.

    ``qos`` gives the profiles that a topic's publishers offered; none are written by default.
    However the block ends, what was written so far is a whole bag.
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
            # Definitions travel in the bag, so that whoever opens it needs none.
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=self._types, offered_qos_profiles=self._qos(topic)
            )
        self._writer.write(self._connections[topic], stamp_ns, data)
