"""``BAG@TIME``: how a user names a frame."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.files.errors import InvalidValue, nearest, shown

# How far a frame may be from the time that is asked for.
NEAR_NS = 500_000_000
MOST_NAMED = 1000  # frames in a list
MOST_LIST_BYTES = 1 << 20
ACCEPTED = (
    "BAG@TIME: the recording's name or path, and seconds since its first frame (12.5) or a stamp "
    "(1700000000500000000ns)"
)
_TIME = re.compile(r"(?P<seconds>\d{1,9}(?:\.\d{0,9})?)|(?P<stamp>\d{1,19})ns")


@dataclass(frozen=True)
class FrameTime:
    """A recording and a time in it."""

    # As given.
    text: str
    bag: Path
    # One of the two: seconds since the first frame, or a stamp in ns.
    time_s: float | None
    stamp_ns: int | None


def frame_time(text: str, argument: str = "frame") -> FrameTime:
    """Read ``BAG@TIME``.

    Raises:
        InvalidValue: It is something else.
    """
    bag, at, time = text.rpartition("@")
    match = _TIME.fullmatch(time.strip())
    if not (at and bag.strip() and match):
        raise InvalidValue(f" is {shown(text)}; accepted: {ACCEPTED}", argument=argument)
    seconds = match["seconds"]
    return FrameTime(
        text=text,
        bag=Path(bag.strip()),
        time_s=float(seconds) if seconds else None,
        stamp_ns=None if seconds else int(match["stamp"]),
    )


def frame_list(path: Path) -> list[FrameTime]:
    """Read a file with one ``BAG@TIME`` a line; empty lines and those with ``#`` in front are not
    read.

    Raises:
        InvalidValue: It cannot be read, holds no frame, too many, or something else.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_LIST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(
            f": {path} cannot be read as text: {error}; accepted: a file with a frame a line",
            argument="frames",
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named or len(named) > MOST_NAMED or len(text) > MOST_LIST_BYTES:
        raise InvalidValue(
            f": {path} holds {len(named)} frames; accepted: 1 to {MOST_NAMED}, one a line, each "
            f"{ACCEPTED}",
            argument="frames",
        )
    return [frame_time(line, argument="frames") for line in named]


def stored_frame(features: FeatureSet, asked: FrameTime) -> int | None:
    """Return the frame nearest to the time that is asked for; None if its recording is not there.

    Raises:
        InvalidValue: The recording is there twice, or has no frame near that time.
    """
    frames = features.frames_of(asked.bag.name)
    if not len(frames):
        return None
    names = [features.name_of(int(frames[k])) for k in (0, -1)]
    same = features.source_names.count(asked.bag.name)
    if same > 1 and asked.stamp_ns is None:
        raise InvalidValue(
            f" is {shown(asked.text)}, and {same} recordings have that name; accepted: a stamp, "
            "such as "
            f"{asked.bag}@{names[0].stamp_ns}ns",
            argument="frame",
        )
    stamps_ns = features.stamp_ns[frames]
    wanted_ns = asked.stamp_ns
    if wanted_ns is None:
        assert asked.time_s is not None and math.isfinite(asked.time_s)
        wanted_ns = int(stamps_ns[0]) + round(asked.time_s * 1e9)
    # In integers: a stamp has more digits than a double.
    away_ns = np.abs(stamps_ns - np.int64(min(wanted_ns, np.iinfo(np.int64).max)))
    best = int(away_ns.argmin())
    if away_ns[best] > NEAR_NS:
        last_s = (int(stamps_ns.max()) - int(stamps_ns[0])) / 1e9
        raise InvalidValue(
            f" is {shown(asked.text)}, and the features have no frame of {asked.bag.name} within "
            f"{NEAR_NS / 1e9:g} s of it; accepted: 0 to {last_s:.3f} s, or "
            f"{stamps_ns.min()}ns to {stamps_ns.max()}ns",
            argument="frame",
        )
    return int(frames[best])


def unknown_recording(features: FeatureSet, asked: FrameTime) -> InvalidValue:
    """Return the error for a recording that is neither in the features nor on this machine."""
    names = list(dict.fromkeys(features.source_names))
    return InvalidValue(
        f" is {shown(asked.text)}, and there is no recording {asked.bag} in the features or at "
        f"that path; accepted: one of {', '.join(names[:5])}"
        f"{f' and {len(names) - 5} others' if len(names) > 5 else ''}, or the path of a bag",
        argument="frame",
        hint=nearest(asked.bag.name, names),
    )
