"""Write the metadata.yaml that makes several MCAP files one recording."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import yaml
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.metadata import dump_qos_v9

from vit_perception.files.atomic import write_whole
from vit_perception.recordings.kind import METADATA


def write_metadata(
    folder: Path, files: Sequence[str], local: Callable[[str], AbstractContextManager[Path]]
) -> str:
    """Describe ``files`` in the order of recording, in metadata version 9; return the file's name.

    ``local`` gives a `with` block the path of one of ``files``; they need not be in ``folder``.
    """
    described = []
    topics = {}
    for name in files:
        with local(name) as path, Reader(path) as reader:
            described.append(
                {
                    "path": name,
                    "starting_time": {"nanoseconds_since_epoch": reader.start_time},
                    "duration": {"nanoseconds": reader.end_time - 1 - reader.start_time},
                    "message_count": reader.message_count,
                }
            )
            for connection in reader.connections:
                topic = topics.setdefault(
                    connection.topic,
                    {
                        "topic_metadata": {
                            "name": connection.topic,
                            "type": connection.msgtype,
                            "serialization_format": "cdr",
                            "type_description_hash": connection.digest,
                            "offered_qos_profiles": dump_qos_v9(
                                connection.ext.offered_qos_profiles
                            ),
                        },
                        "message_count": 0,
                    },
                )
                topic["message_count"] += connection.msgcount
    start_ns = min((f["starting_time"]["nanoseconds_since_epoch"] for f in described), default=0)
    end_ns = max(
        (
            f["starting_time"]["nanoseconds_since_epoch"] + f["duration"]["nanoseconds"]
            for f in described
        ),
        default=0,
    )
    metadata = {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": {"nanoseconds": end_ns - start_ns},
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "message_count": sum(f["message_count"] for f in described),
        "topics_with_message_count": list(topics.values()),
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": files,
        "files": described,
        "custom_data": None,
        "ros_distro": "rosbags",
    }
    text = yaml.safe_dump({"rosbag2_bagfile_information": metadata}, sort_keys=False)
    write_whole(folder / METADATA, lambda file: file.write_text(text, "utf-8"))
    return METADATA
