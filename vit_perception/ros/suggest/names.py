"""Names of cameras, arms and other sources made of the names of their topics."""

import re
from collections.abc import Sequence
from typing import NamedTuple

MOST_CHARACTERS = 60


class Naming(NamedTuple):
    """How sources of one kind are called."""

    # Words of a topic that say what it carries, not where it comes from.
    common: re.Pattern[str]
    # The name of the only one, and the ending of a name that alone would not say what it is.
    otherwise: str


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


CAMERAS = Naming(
    _words(r"(image|img)(_\w+)?|compressed|colou?r|rgb|camera|cam|raw|video|stream"), "camera"
)
ARMS = Naming(_words(r"(\w+_)?pose(_stamped)?|ee|eef|tcp|end_effector|arm|robot|state"), "arm")
STATES = Naming(_words(r"(\w+_)?joint_states?|joints?|states?|robot"), "joints")
WRENCHES = Naming(_words(r"(\w+_)?wrench(_\w+)?|(force_torque|ft)_sensor|robot"), "wrench")
_SIDES = ("left", "right", "l", "r")
# What drivers of ros2_control end in.
_DRIVER = re.compile(r"(_state)?_(broadcaster|controller|driver|node)$")


def names_of(topics: Sequence[str], naming: Naming, used: set[str]) -> dict[str, str]:
    """Return a name for each of ``topics``, and add the names to ``used``.

    Each is a letter followed by letters, digits and underscores, and no two are equal. Topics that
    end alike get more of their words: ``left_wrist`` and ``right_wrist``.
    """
    words = {topic: _telling(topic, naming) for topic in topics}
    count = dict.fromkeys(topics, 1)
    while True:
        names = {topic: _joined(words[topic], count[topic], naming) for topic in topics}
        alike = [t for t in topics if list(names.values()).count(names[t]) > 1]
        longer = [t for t in alike if count[t] < len(words[t])]
        if not longer:
            break
        for topic in longer:
            count[topic] += 1
    for topic in topics:
        names[topic] = _free(names[topic], naming, used)
        used.add(names[topic])
    return names


def _telling(topic: str, naming: Naming) -> list[str]:
    """The words of ``topic`` that say where it comes from, as parts of a name."""
    words = []
    for word in topic.strip("/").split("/"):
        word = _DRIVER.sub("", re.sub(r"\W", "_", word, flags=re.ASCII)).strip("_")
        if word and not naming.common.fullmatch(word):
            words.append(word)
    return words


def _joined(words: Sequence[str], count: int, naming: Naming) -> str:
    name = "_".join(words[-count:])[-MOST_CHARACTERS:].lstrip("_") or naming.otherwise
    if name in _SIDES:
        name = f"{name}_{naming.otherwise}"
    return name if name[0].isalpha() else f"{naming.otherwise}_{name}"


def _free(name: str, naming: Naming, used: set[str]) -> str:
    if name in used and name != naming.otherwise:
        name = f"{name}_{naming.otherwise}"
    base, number = name, 1
    while name in used:
        number += 1
        name = f"{base}_{number}"
    return name
