"""Write messages to a rosbag2 folder (MCAP) as the CDR bytes they came in, without ROS."""

from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore


class BagWriter:
    """An MCAP bag at ``path``, which must not exist yet: ``with BagWriter(path) as bag: bag.write(...)``."""

    def __init__(self, path: Path):
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._types = get_typestore(Stores.ROS2_KILTED)
        self._connections: dict[str, object] = {}

    def __enter__(self) -> "BagWriter":
        self._writer.open()
        return self

    def __exit__(self, *unused) -> None:
        self._writer.close()

    def write(self, topic: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        """Append one message of ``type_name`` (``package/msg/Name``), recorded at ``stamp_ns``."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, type_name,
                                                                   typestore=self._types_with(type_name))
        self._writer.write(self._connections[topic], stamp_ns, data)

    def _types_with(self, type_name: str) -> Typestore:
        """Definitions travel in the bag, so that whoever opens it needs none; vision_msgs is not in every store."""
        if type_name not in self._types.types:
            for name, definition in _VISION_MSGS.items():
                self._types.register(get_types_from_msg(definition, name))
        return self._types


_VISION_MSGS = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/Classification": "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n",
}
