"""The messages of the monitor: rows of the table in :mod:`vit_perception.wire.topics`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from vit_perception.wire.monitored import CameraChange
from vit_perception.wire.stamps import header_fields

# The one class of the message of the novelty.
NOVEL = "novel"


class _Result(Protocol):
    changes: dict[str, CameraChange]
    cameras: dict[str, Any]


class _Outgoing(Protocol):
    @property
    def result(self) -> _Result: ...


def _header(outgoing: _Outgoing, name: str) -> dict[str, Any]:
    image = outgoing.result.cameras[name].image
    return header_fields(image.stamp_ns, image.frame_id)


def novelty_fields(outgoing: _Outgoing, name: str) -> dict[str, Any] | None:
    """Return the fields of a vision_msgs/Classification; None if the frame has no such number."""
    change = outgoing.result.changes.get(name)
    if change is None:
        return None
    results = [{"class_id": NOVEL, "score": change.novelty}]
    return {"header": _header(outgoing, name), "results": results}


def shift_fields(outgoing: _Outgoing, name: str) -> dict[str, Any] | None:
    """Return the fields of a geometry_msgs/Vector3Stamped: x and y in px, z in degrees."""
    change = outgoing.result.changes.get(name)
    if change is None or change.shift is None:
        return None
    shift = change.shift
    vector = {"x": shift.x_px, "y": shift.y_px, "z": shift.rotation_deg}
    return {"header": _header(outgoing, name), "vector": vector}


class MonitorRow(NamedTuple):
    """What ``topics.OutputTopic`` is made of."""

    name: str
    type: str
    what: str
    encode: Callable[[Any, str], dict[str, Any] | None]


MONITOR_ROWS = (
    MonitorRow(
        "{}/novelty",
        "vision_msgs/msg/Classification",
        "the class `novel`, whose score is the share of the reference's held-out frames that are "
        "less novel, 0 to 1; with `monitor.reference`",
        novelty_fields,
    ),
    MonitorRow(
        "{}/camera_shift",
        "geometry_msgs/msg/Vector3Stamped",
        "how far the static background has moved at the image's centre: x (right) and y (down) in "
        "px of the camera's image, z in degrees (positive is clockwise); with `monitor.reference`, "
        "of a camera that sees such a background",
        shift_fields,
    ),
)
