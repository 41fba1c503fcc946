"""The tokens of earlier frames, kept so that no image is encoded twice."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from vit_perception.config.checks import BadSetting
from vit_perception.wire.layout_history import (
    MOST_KEPT_FRAMES,
    NO_FRAME,
    LayoutHistory,
    same_views,
)
from vit_perception.wire.records import CameraResult, TokenSequence

MOST_KEPT_BYTES = 1 << 30
# The period of the frames is the median between so many of them: a few lost ones do not matter.
PERIOD_FRAMES = 8


@dataclass(frozen=True, eq=False)
class _Kept:
    """One frame of the past."""

    stamp_ns: int
    sequence: TokenSequence
    # Image size and frame_id of each camera that was present.
    views: Mapping[str, Any]


class TokenHistory:
    """The last frames' tokens; makes the sequence of a frame one with its history.

    It takes the memory of every frame within the span of the history, (K - 1) strides: K times the
    tokens of a frame where the stride is the frames' period, and more of them where frames come
    more often. ``frame_bytes`` is the size of one frame's tokens.

    Raises:
        BadSetting: ``history.frames``: the tokens of so many frames are over the limit.
    """

    def __init__(self, rule: LayoutHistory | None, frame_bytes: int):
        self._rule = rule
        self._most = min(MOST_KEPT_FRAMES, MOST_KEPT_BYTES // max(1, frame_bytes))
        if rule and rule.frames > self._most:
            raise BadSetting(
                "history.frames",
                rule.frames,
                f"1 to {max(1, self._most)}: a frame's tokens take {frame_bytes / 2**20:.0f} MiB, "
                f"and all that are kept at most {MOST_KEPT_BYTES >> 20} MiB",
            )
        self._kept: deque[_Kept] = deque()
        self._steps_ns: deque[int] = deque(maxlen=PERIOD_FRAMES)
        self._is_cut = False

    @property
    def frames(self) -> int:
        """How many frames are kept."""
        return len(self._kept)

    def frames_before(self, period_ns: int) -> int:
        """Return how many frames before one belong to its history, where they are ``period_ns``
        apart.
        """
        return self._rule.span_ns // period_ns + 1 if self._rule else 0

    def clear(self) -> None:
        """Forget every frame: the next one begins anew."""
        self._kept.clear()
        self._steps_ns.clear()
        self._is_cut = False

    def extended(
        self, sequence: TokenSequence, stamp_ns: int, cameras: Mapping[str, CameraResult]
    ) -> tuple[TokenSequence, tuple[int, ...]]:
        """Keep ``sequence``, and return it behind those of the earlier steps, with their stamps.

        A step without a frame is masked and has the stamp 0. A step back in time, and a second
        frame of one stamp, begin anew. Call it once for each frame, in the order of the frames.
        """
        if self._rule is None:
            return sequence, ()
        if self._kept:
            step_ns = stamp_ns - self._kept[-1].stamp_ns
            if step_ns <= 0:
                self.clear()
            else:
                self._steps_ns.append(step_ns)
        views = {name: (each.image.size, each.image.frame_id) for name, each in cameras.items()}
        self._keep(_Kept(stamp_ns, with_own_groups(sequence), views), self._rule.span_ns)
        places = self._rule.chosen(np.array([each.stamp_ns for each in self._kept]))
        steps = [self._kept[place] if place != NO_FRAME else None for place in places]
        steps = [each if each and same_views(each.views, views) else None for each in steps]
        sequences = [each.sequence if each else None for each in steps]
        return joined(sequences, sequence), tuple(each.stamp_ns if each else 0 for each in steps)

    def _keep(self, frame: _Kept, span_ns: int) -> None:
        self._kept.append(frame)
        oldest_ns = frame.stamp_ns - span_ns
        while self._kept[0].stamp_ns < oldest_ns:
            self._kept.popleft()
            self._is_cut = False
        while len(self._kept) > self._most:
            self._kept.popleft()
            self._is_cut = True

    @property
    def complaint(self) -> str:
        """Why steps stay masked although frames come; empty if nothing is wrong."""
        if self._rule is None or len(self._steps_ns) < PERIOD_FRAMES:
            return ""
        period_ns = median(self._steps_ns)
        if period_ns > self._rule.stride_ns:
            return (
                f"history.stride_s is {self._rule.stride_s:g}, and frames come every "
                f"{period_ns / 1e9:.3g} s, so that steps of the history stay masked; accepted: at "
                "least the time between two frames"
            )
        if self._is_cut:
            held_s = (self._kept[-1].stamp_ns - self._kept[0].stamp_ns) / 1e9
            return (
                f"history.frames is {self._rule.frames} with a stride of {self._rule.stride_s:g} "
                f"s, and the {self._most} frames that are kept at most reach back {held_s:.3g} s, "
                "so that older steps stay masked; accepted: a shorter history, or a lower "
                "max_rate_hz"
            )
        return ""


def with_own_groups(sequence: TokenSequence) -> TokenSequence:
    """Return ``sequence`` with groups that are parts of its own tokens.

    Those of a camera are views of the engine's output, which holds for one frame only.
    """
    start = 0
    groups = []
    for group in sequence.groups:
        stop = start + len(group.tokens)
        groups.append(replace(group, tokens=sequence.tokens[start:stop]))
        start = stop
    return replace(sequence, groups=tuple(groups))


def joined(steps: Sequence[TokenSequence | None], now: TokenSequence) -> TokenSequence:
    """Return one sequence of ``steps``, oldest first; None is one in which all of ``now`` is
    missing.
    """
    nothing = with_own_groups(
        TokenSequence(
            groups=tuple(replace(group, valid=False) for group in now.groups),
            tokens=np.zeros_like(now.tokens),
            mask=np.zeros_like(now.mask),
        )
    )
    parts = [each or nothing for each in steps]
    return TokenSequence(
        groups=tuple(
            replace(group, step=len(parts) - 1 - place)
            for place, part in enumerate(parts)
            for group in part.groups
        ),
        tokens=np.concatenate([part.tokens for part in parts]),
        mask=np.concatenate([part.mask for part in parts]),
    )
