"""The quality of service that a recording states for its publishers, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vit_perception.files.errors import InvalidValue
from vit_perception.files.yaml_files import parse_yaml

MOST_BYTES = 1 << 20  # of one topic's profiles as YAML
DEEPEST = 10_000  # messages that a publisher may keep
# As rmw numbers them, from 0; rosbag2 writes the number or the name.
_POLICIES = {
    "reliability": ("system_default", "reliable", "best_effort", "unknown", "best_available"),
    "durability": ("system_default", "transient_local", "volatile", "unknown", "best_available"),
    "history": ("system_default", "keep_last", "keep_all", "unknown"),
}
_SHOWN = 80


@dataclass(frozen=True)
class RecordedQos:
    """One publisher's profile."""

    reliability: str  # system_default, reliable, best_effort, unknown or best_available
    durability: str  # system_default, transient_local, volatile, unknown or best_available
    history: str  # system_default, keep_last, keep_all or unknown
    depth: int  # number of messages that it kept; 0 is unknown


def recorded_profiles(given: Any) -> list[RecordedQos]:
    """Return the profiles of one topic; ``given`` is YAML as recorded, or its list.

    Deadlines, lifespans and leases are not read: they are not replayed.

    Raises:
        InvalidValue: it is not a list of profiles, or a depth is one that no publisher has.
    """
    if isinstance(given, str):
        given = parse_yaml(given, "offered_qos_profiles", MOST_BYTES)
    if given is None or given == "":
        return []
    if not isinstance(given, list):
        raise InvalidValue(f"offered_qos_profiles is {_shown(given)}; accepted: a list")
    return [_profile(one) for one in given]


def _profile(given: Any) -> RecordedQos:
    if not isinstance(given, Mapping) and not hasattr(given, "_asdict"):
        raise InvalidValue(
            f"a profile is {_shown(given)}; accepted: a mapping with {', '.join(_POLICIES)} and "
            "depth"
        )
    # The library `rosbags` has profiles as named tuples.
    fields = given if isinstance(given, Mapping) else given._asdict()
    depth = fields.get("depth", 0)
    if type(depth) is not int or not 0 <= depth <= DEEPEST:
        raise InvalidValue(f"depth is {_shown(depth)}; accepted: 0 to {DEEPEST}")
    policies = {name: _policy(name, fields.get(name, "unknown")) for name in _POLICIES}
    return RecordedQos(**policies, depth=depth)


def _policy(name: str, value: Any) -> str:
    names = _POLICIES[name]
    if type(value) is int and 0 <= value < len(names):
        return names[value]
    text = getattr(value, "name", value)  # the library's are enumerations
    if isinstance(text, str) and text.lower() in names:
        return text.lower()
    raise InvalidValue(f"{name} is {_shown(value)}; accepted: {', '.join(names)}")


def _shown(value: Any) -> str:
    if type(value) is int:
        return str(value) if abs(value) < 1 << 63 else "an integer beyond 64 bits"
    is_plain = isinstance(value, (str, float, bool, type(None)))
    text = repr(value) if is_plain else type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
