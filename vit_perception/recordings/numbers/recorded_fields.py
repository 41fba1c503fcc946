"""The fields of a message type as a bag defines them; those of ROS if it does not."""

import re

from vit_perception.recordings.definitions import (
    PARSERS,
    Field,
    Fields,
    described,
    difference,
    typestore,
)
from vit_perception.recordings.storage import MOST_DEFINITION_BYTES, Channel, Unreadable, shown

# Annotations of IDL that change the bytes of a message.
_UNREAD_IDL = re.compile(r"@(?:optional|mutable|appendable|extensibility|external)\b")


def recorded_fields(channel: Channel) -> dict[str, Fields]:
    """Return the fields by type, also of types that ROS does not have.

    Raises:
        Unreadable: there is no definition, or the recorded one is in a form that is not read here.
    """
    name, encoding, text = channel.definition
    if not text:
        if why := difference(channel):
            raise Unreadable(why)
        return _of_ros(name)
    if len(text) > MOST_DEFINITION_BYTES:
        raise Unreadable(
            f"the bag's definition of {name} has more than {MOST_DEFINITION_BYTES} characters"
        )
    if encoding not in PARSERS:
        raise Unreadable(f"the bag's definition of {name} is written in {shown(encoding)!r}")
    if encoding != "ros2msg" and (unread := _UNREAD_IDL.search(text)):
        raise Unreadable(f"the bag's definition of {name} has {unread[0]}, which is not read")
    return PARSERS[encoding](text, name)


def _of_ros(name: str) -> dict[str, Fields]:
    store = typestore()
    if name not in store.fielddefs:
        raise Unreadable(f"the bag does not record the definition of {name}")
    found: dict[str, Fields] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = [Field(field, described(kind)) for field, kind in store.fielddefs[name][1]]
        inner = [field.kind.split("[")[0] for field in found[name]]
        waiting += [kind for kind in inner if kind in store.fielddefs]
    return found
