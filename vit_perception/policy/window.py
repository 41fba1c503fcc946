"""One observation of a policy, and windows of several."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vit_perception.policy.continuity import (
    MAX_GAP_S,
    checked_ages,
    checked_max_gap_ns,
    follows,
    views_of,
)
from vit_perception.policy.layout_check import meaning_of
from vit_perception.wire.layout import Layout
from vit_perception.wire.layout_history import MOST_KEPT_FRAMES, NO_FRAME, same_views


@dataclass(frozen=True, eq=False)
class Observation:
    """What the node sent for one image stamp."""

    stamp_ns: int  # of the first camera present
    tokens: np.ndarray  # (N, D) in the dtype of the wire, a view of the message
    mask: np.ndarray  # (N,) bool: False for the rows of a source that was missing
    embedding: np.ndarray | None  # (L,) in the dtype of the wire, a view of the message
    # By the group's and the source's name, (count,) float64, as ``layout.samples`` names the
    # numbers; NaN if the source was missing.
    samples: dict[str, dict[str, np.ndarray]]
    layout: Layout  # what every array holds; ``layout.steps`` parts tokens and mask by frame
    # By kind, (T, W) as ``layout.apart`` names them, views of the messages: tokens of another width
    # than D, zeros if missing.
    apart: dict[str, np.ndarray] = field(default_factory=dict)
    # (K,) int64: of the frames whose tokens these are, oldest first, 0 where there is none. None
    # if the node keeps no history.
    history_stamps_ns: np.ndarray | None = None
    # By group, (T, K) float32: the patch tokens as coefficients of the layout's basis, if the
    # decoder does not expand them. ``tokens`` then has the rows of the other groups, ``mask`` all.
    coefficients: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def poses(self) -> dict[str, np.ndarray]:
        """By arm, (7,): position in m, quaternion xyzw."""
        return self.samples.get("poses", {})

    @property
    def states(self) -> dict[str, np.ndarray]:
        """By name: the joints as ``layout.states`` names them."""
        return self.samples.get("states", {})


class ObservationWindow:
    """The last ``history`` observations, oldest first.

    They are ``stride`` observations apart, or, with ``stride_s``, that time. It makes the same
    windows of the same frames as :class:`vit_perception.policy.dataset.FeatureDataset`, which says
    what is in them.

    Raises:
        InvalidValue: a number is not accepted.
    """

    def __init__(
        self,
        history: int,
        stride: int = 1,
        max_gap_s: float = MAX_GAP_S,
        *,
        stride_s: float | None = None,
        tolerance_s: float = 0.0,
    ):
        self._max_gap_ns = checked_max_gap_ns(history, stride, max_gap_s)
        self._rule = checked_ages(history, stride, stride_s, tolerance_s)
        self._stride = stride
        most = MOST_KEPT_FRAMES if self._rule else (history - 1) * stride + 1
        self._kept: deque[Observation] = deque(maxlen=most)

    def begin_episode(self) -> None:
        """Begin a new window: the next observation does not continue the last one."""
        self._kept.clear()

    def add(self, observation: Observation) -> dict[str, Any] | None:
        """Return arrays with a leading axis of ``history``, named as the data set's.

        Returns None until there are enough observations; with ``stride_s`` there always are. A step
        back in time, a gap, and another layout begin a new window.
        """
        chosen = self._by_age(observation) if self._rule else self._by_count(observation)
        return _stacked(chosen) if chosen else None

    def _by_count(self, observation: Observation) -> list[Observation]:
        last = self._kept[-1] if self._kept else None
        if last is not None and not follows(
            step_ns=observation.stamp_ns - last.stamp_ns,
            same_episode=True,
            same_layout=observation.layout.layout_id == last.layout.layout_id,
            max_gap_ns=self._max_gap_ns,
        ):
            self.begin_episode()
        self._kept.append(observation)
        if len(self._kept) < (self._kept.maxlen or 0):
            return []
        return list(self._kept)[:: self._stride]

    def _by_age(self, observation: Observation) -> list[Observation]:
        last = self._kept[-1] if self._kept else None
        if last is not None and (
            observation.stamp_ns <= last.stamp_ns or not _mean_alike(observation, last)
        ):
            self.begin_episode()
        self._kept.append(observation)
        while self._kept[0].stamp_ns < observation.stamp_ns - self._rule.span_ns:
            self._kept.popleft()
        blank = _blank(observation)
        chosen = [
            self._kept[place] if place != NO_FRAME else blank
            for place in self._rule.chosen(np.array([o.stamp_ns for o in self._kept]))
        ]
        return [each if _see_alike(each, observation) else blank for each in chosen]


def _mean_alike(one: Observation, other: Observation) -> bool:
    if one.layout is other.layout or one.layout.layout_id == other.layout.layout_id:
        return True
    return meaning_of(one.layout) == meaning_of(other.layout)


def _see_alike(earlier: Observation, now: Observation) -> bool:
    if earlier.layout is now.layout:
        return True
    return same_views(views_of(earlier.layout, earlier.mask), views_of(now.layout, now.mask))


def _blank(like: Observation) -> Observation:
    """Return what stands in the place of a step without a frame."""
    return replace(
        like,
        stamp_ns=0,
        tokens=np.zeros_like(like.tokens),
        mask=np.zeros_like(like.mask),
        embedding=None if like.embedding is None else np.zeros_like(like.embedding),
        samples={
            group: {name: np.full_like(numbers, np.nan) for name, numbers in sources.items()}
            for group, sources in like.samples.items()
        },
        apart={kind: np.zeros_like(rows) for kind, rows in like.apart.items()},
        coefficients={name: np.zeros_like(rows) for name, rows in like.coefficients.items()},
    )


def _stacked(chosen: list[Observation]) -> dict[str, Any]:
    last = chosen[-1]
    window: dict[str, Any] = {
        "stamps_ns": np.array([o.stamp_ns for o in chosen]),
        "tokens": np.stack([o.tokens for o in chosen]),
        "mask": np.stack([o.mask for o in chosen]),
        "poses": {},
        "states": {},
    }
    for group, sources in last.samples.items():
        window[group] = {
            name: np.stack([o.samples[group][name] for o in chosen]) for name in sources
        }
    for kind in last.apart:
        window[kind] = np.stack([o.apart[kind] for o in chosen])
    if last.coefficients:
        window["coefficients"] = {
            name: np.stack([o.coefficients[name] for o in chosen]) for name in last.coefficients
        }
    if last.embedding is not None:
        window["embedding"] = np.stack([o.embedding for o in chosen])
    return window
