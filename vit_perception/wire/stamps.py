"""ROS times to integer nanoseconds and back. Nothing else decodes stamps."""

from typing import Any

from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time in ns, unchecked: for times that ROS itself made."""
    return int(stamp.sec) * NANOSECONDS_PER_SECOND + int(stamp.nanosec)


def stamp_ns_of(header: Any, meaning: str = "capture") -> int:
    """Return the stamp of a std_msgs/Header in ns; ``meaning`` says of what, for errors.

    Raises:
        BadInput: ``stamp``, for a time of zero (nobody set it), below zero, or a nanosec of a
            second or more.
    """
    stamp_ns = nanoseconds(header.stamp)
    if stamp_ns <= 0 or header.stamp.nanosec >= NANOSECONDS_PER_SECOND:
        raise BadInput(
            "stamp",
            f"header.stamp is {header.stamp.sec} s {header.stamp.nanosec} ns; "
            f"accepted: the time of {meaning}, above zero, nanosec below 1e9",
        )
    return stamp_ns


def header_fields(stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """Return the fields of a std_msgs/Header."""
    seconds, nanosec = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return {"stamp": {"sec": seconds, "nanosec": nanosec}, "frame_id": frame_id}
