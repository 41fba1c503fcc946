"""Plain fields of :mod:`vit_perception.wire.topics` as rclpy messages."""

import importlib
from functools import cache
from typing import Any

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from vit_perception.wire.records import NANOSECONDS_PER_SECOND


def header_of(stamp_ns: int, frame_id: str) -> Header:
    """A header with the stamp in ns and the frame given."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


@cache
def class_of(type_name: str) -> type:
    """The class of one of our own message types, ``sensor_msgs/msg/Image`` or
    ``sensor_msgs/Image``; for names in recordings see
    :func:`vit_perception.ros.interfaces.message_class`.
    """
    package, *_, name = type_name.split("/")
    found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


def message_of(type_name: str, fields: dict[str, Any]) -> Any:
    """A message of a type such as ``sensor_msgs/msg/Image``. What ``fields`` leaves out keeps its
    default.
    """
    message = _empty(class_of(type_name))
    _fill(message, fields)
    return message


def _empty(kind: type) -> Any:
    # With its checks on, a message takes an array.array as it is; without, Jazzy and Kilted copy
    # it. Humble always checks, and does not know the argument.
    try:
        return kind(check_fields=True)
    except (AssertionError, TypeError):
        return kind()


def _fill(message: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            _fill(getattr(message, name), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            sequence = message.get_fields_and_field_types()[name]
            item_type = sequence.removeprefix("sequence<").removesuffix(">")
            setattr(message, name, [message_of(item_type, item) for item in value])
        else:
            # Set after construction: the setter takes an array.array as it is, without a copy.
            setattr(message, name, value)
