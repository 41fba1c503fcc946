"""Whether /dev/shm has room for what Fast DDS takes there, and its segments for the images."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import read_bounded

FOLDER = Path("/dev/shm")
DEFAULT_SEGMENT_BYTES = 512 << 10  # of Fast DDS without a profile
# A process's segment is allocated at once: 35.1 MB were measured for one of 33.6 MB.
OVERHEAD = 1.05
# Processes that a robot still starts: node, camera drivers, policy.
PROCESSES = 4
_MOST_PROFILE_BYTES = 1 << 20
_SEGMENT = re.compile(r"<segment_size>\s*(\d{1,12})\s*</segment_size>")
_MESSAGE = re.compile(r"<maxMessageSize>\s*(\d{1,12})\s*</maxMessageSize>")


class Segment(NamedTuple):
    """What one process takes, and the largest message that goes through it."""

    bytes: int
    message_bytes: int
    from_profile: bool


def segment_of(variables: Mapping[str, str], names: tuple[str, ...]) -> Segment:
    """Return what the DDS profile says that one of the environment variables ``names`` names.

    Without one, or where it says nothing of shared memory, it is Fast DDS's default.
    """
    for name in names:
        if path := variables.get(name):
            try:
                text = read_bounded(Path(path), _MOST_PROFILE_BYTES).decode(errors="replace")
            except (OSError, InvalidValue):
                continue
            if found := _SEGMENT.search(text):
                size = int(found[1])
                message = _MESSAGE.search(text)
                return Segment(size, min(size, int(message[1]) if message else size), True)
    return Segment(DEFAULT_SEGMENT_BYTES, DEFAULT_SEGMENT_BYTES, False)


def free_bytes(folder: Path = FOLDER) -> tuple[int, int] | None:
    """Return free and total bytes of ``folder``; None where there is none."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free, usage.total


def memory_lines(
    segment: Segment, largest_bytes: int, largest_topic: str, free: tuple[int, int] | None
) -> list[str]:
    """Return what there is to say, the first line without a fault, each fault as a WARNING.

    ``largest_bytes`` is the size of the largest image that was seen, of ``largest_topic``; 0 if
    none was.
    """
    if free is None:
        return [f"no {FOLDER} here"]
    taken = int(segment.bytes * OVERHEAD)
    whose = "the DDS profile" if segment.from_profile else "Fast DDS's default"
    lines = [
        f"{_size(free[0])} of {_size(free[1])} free in {FOLDER}; each process takes "
        f"{_size(taken)} ({whose})"
    ]
    if free[0] < PROCESSES * taken:
        smaller = ", or make segment_size in the profile smaller" if segment.from_profile else ""
        lines.append(
            f"WARNING: that is room for {free[0] // taken} more processes; a robot's cameras, node "
            f"and policy are {PROCESSES} or more. Enlarge it (Docker's option shm-size){smaller}"
        )
    if largest_bytes > segment.message_bytes:
        lines.append(
            f"WARNING: images of {largest_topic} have {_size(largest_bytes)}, and "
            f"{_size(segment.message_bytes)} go through shared memory in one piece: best effort "
            "loses many. "
            + (
                "Raise segment_size and maxMessageSize in the profile"
                if segment.from_profile
                else "Camera and node need config/fastdds_large_data.xml"
            )
        )
    return lines


def _size(count: int) -> str:
    if count >= 10**9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB"
