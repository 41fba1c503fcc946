"""The one rule of history: which earlier frames stand beside the current one in ``~/tokens``.

The node's buffer, the torch data set and the live window all choose frames with it, so they make
the same windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from vit_perception.files.errors import InvalidValue, shown

# Limits of what may be asked for.
MOST_STEPS = 32
SHORTEST_STRIDE_S = 0.001
LONGEST_STRIDE_S = 10.0
LONGEST_SPAN_S = 60.0
# Frames that are kept to choose from, however high their rate is.
MOST_KEPT_FRAMES = 1024

NO_FRAME = -1


class Refused(NamedTuple):
    """A number of a history that is not accepted."""

    name: str  # frames, stride_s or tolerance_s
    value: Any
    accepted: str


def refused(frames: int, stride_s: float, tolerance_s: float) -> Refused | None:
    """Return the first number that is not accepted, or None.

    NaN fails each of the comparisons, so it is refused too.
    """
    if not 1 <= frames <= MOST_STEPS:
        return Refused("frames", frames, f"1 to {MOST_STEPS}")
    if not SHORTEST_STRIDE_S <= stride_s <= LONGEST_STRIDE_S:
        accepted = f"{SHORTEST_STRIDE_S:g} to {LONGEST_STRIDE_S:g} s"
        return Refused("stride_s", stride_s, accepted)
    if (frames - 1) * stride_s > LONGEST_SPAN_S:
        most = int(LONGEST_SPAN_S / stride_s) + 1
        accepted = f"1 to {most} with a stride of {stride_s:g} s: they span {LONGEST_SPAN_S:g} s"
        return Refused("frames", frames, accepted)
    if not 0.0 <= tolerance_s <= stride_s / 2:
        accepted = f"up to {stride_s / 2:g} s, half of the stride; 0 is that half"
        return Refused("tolerance_s", tolerance_s, accepted)
    return None


@dataclass(frozen=True)
class LayoutHistory:
    """The frames in ``~/tokens``: step k is ``k * stride_s`` older than the current one, step 0."""

    frames: int  # K, the number of steps, the current one included
    stride_s: float  # between two steps
    tolerance_s: float  # the largest distance of a step's frame from the step's own time

    @classmethod
    def of(
        cls, frames: int, stride_s: float, tolerance_s: float = 0.0, name: str = "frames"
    ) -> "LayoutHistory":
        """Return a checked history; ``tolerance_s`` 0 is half of the stride.

        ``name`` is what the caller calls ``frames``.

        Raises:
            InvalidValue: a number is not accepted.
        """
        if wrong := refused(frames, stride_s, tolerance_s):
            argument = name if wrong.name == "frames" else wrong.name
            raise InvalidValue(
                f" is {shown(wrong.value)}; accepted: {wrong.accepted}", argument=argument
            )
        return cls(frames, float(stride_s), float(tolerance_s or stride_s / 2))

    @property
    def stride_ns(self) -> int:
        """``stride_s`` in ns."""
        return round(1e9 * self.stride_s)

    @property
    def tolerance_ns(self) -> int:
        """``tolerance_s`` in ns; never more than half of the stride, so no frame is taken twice."""
        return min(round(1e9 * self.tolerance_s), self.stride_ns // 2)

    @property
    def ages_ns(self) -> np.ndarray:
        """How much older than the current frame each step is, (K,) int64, oldest first."""
        return np.arange(self.frames - 1, -1, -1, dtype=np.int64) * self.stride_ns

    @property
    def span_ns(self) -> int:
        """Frames that are older than the current one by more than this are never chosen."""
        return (self.frames - 1) * self.stride_ns + self.tolerance_ns

    def chosen(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Return the place in ``stamps_ns`` of each step's frame, (K,), oldest first.

        ``stamps_ns`` are those of the frames up to the current one, which is the last; they have to
        increase. A step takes the frame nearest to its time, of two as near the older one. It has
        none, ``NO_FRAME``, if that frame is ``tolerance_s`` later or more, or earlier by more than
        that: the two ends differ so that a frame halfway between two steps is in one of them.
        """
        before = max(0, len(stamps_ns) - MOST_KEPT_FRAMES)
        kept_ns = stamps_ns[before:]
        wanted_ns = kept_ns[-1] - self.ages_ns
        later = np.searchsorted(kept_ns, wanted_ns)  # the first frame at or after the time
        earlier = np.maximum(later - 1, 0)
        is_later = kept_ns[later] - wanted_ns < np.abs(wanted_ns - kept_ns[earlier])
        nearest = np.where(is_later, later, earlier)
        away_ns = kept_ns[nearest] - wanted_ns
        is_near = (away_ns >= -self.tolerance_ns) & (away_ns < self.tolerance_ns)
        found = np.where(is_near, nearest + before, NO_FRAME)
        found[-1] = len(stamps_ns) - 1
        return found

    def problem(self, groups: Sequence[Any]) -> str:
        """Return what is wrong with it in a layout that came from outside; empty if nothing is.

        ``groups`` are the ``LayoutGroup`` of all steps, in the order of the rows.
        """
        if not 2 <= self.frames <= MOST_STEPS or not self.stride_s > 0 or not self.tolerance_s > 0:
            return f"history is {self}; accepted: 2 to {MOST_STEPS} frames, and times above 0"
        count = len(groups) // self.frames
        for place, group in enumerate(groups):
            step = self.frames - 1 - place // max(1, count)
            now = groups[place % max(1, count) - count]
            expected = replace(
                now,
                name=step_name(now.name, step),
                start=group.start,
                stop=group.start + now.stop - now.start,
                step=step,
            )
            if group != expected:
                return (
                    f"groups: {group} does not fit a history of {self.frames} frames; accepted: "
                    f"{expected}"
                )
        return ""


def step_name(name: str, step: int) -> str:
    """Return the name of a group of an earlier step, such as ``wrist/patch@2``; step 0 has none."""
    return f"{name}@{step}" if step else name


def with_history(layout: Any, history: LayoutHistory) -> Any:
    """Return ``layout``, which has no history, as a node with ``history`` sends it."""
    count = layout.token_count
    groups = [
        replace(
            group,
            name=step_name(group.name, step),
            start=group.start + count * (history.frames - 1 - step),
            stop=group.stop + count * (history.frames - 1 - step),
            step=step,
        )
        for step in range(history.frames - 1, -1, -1)
        for group in layout.groups
    ]
    return replace(layout, groups=tuple(groups), history=history)


def same_views(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the cameras of two frames saw alike, so that one layout explains both.

    A view is the image size and the frame_id of a camera that was present. Cameras that are absent
    from one of the frames are not compared.
    """
    return all(now.get(camera, view) == view for camera, view in earlier.items())
