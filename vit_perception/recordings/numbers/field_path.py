"""The path of a field in a message: ``pose.position.x``, ``position[0:7]``, ``points[0].time``.

The empty path is the whole message. Indices are as in Python, without steps: ``[2]``, ``[-1]``,
``[1:4]``.
"""

import re
from typing import NamedTuple

from vit_perception.recordings.storage import Unreadable, shown

LONGEST_PATH = 200  # characters
ACCEPTED_PATH = "names joined by dots, each with [index] or [start:stop] behind it or not"

_STEP = re.compile(
    r"(?P<name>[A-Za-z]\w{0,99})(?:\[(?:(?P<index>-?\d{1,6})|(?P<start>-?\d{0,6}):(?P<stop>-?\d{0,6}))\])?",
    re.ASCII,
)


class Step(NamedTuple):
    """One name of a path, and what is taken of it if it is an array."""

    name: str
    # Which elements; None takes all.
    part: slice | int | None = None


Path = tuple[Step, ...]


def parsed_path(text: str) -> Path:
    """Return the steps of ``text``; () for the empty text.

    Raises:
        Unreadable: it is no path of a field.
    """
    if not text:
        return ()
    if len(text) > LONGEST_PATH:
        raise Unreadable(f"a field of more than {LONGEST_PATH} characters ({shown(text, 60)})")
    steps = []
    for part in text.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            raise Unreadable(f"{shown(text)!r} is no field")
        chosen: slice | int | None = None
        if match["index"] is not None:
            chosen = int(match["index"])
        elif match["start"] is not None:
            chosen = slice(_number(match["start"]), _number(match["stop"]))
        steps.append(Step(match["name"], chosen))
    return tuple(steps)


def _number(text: str) -> int | None:
    return int(text) if text not in ("", "-") else None
