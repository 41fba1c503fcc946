"""Which frames may be in one window: one rule for stored features and live observations."""

from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue, shown
from vit_perception.wire.layout import Layout
from vit_perception.wire.layout_history import LayoutHistory

MAX_GAP_S = 1.0
_MOST_NS = (1 << 63) - 1


def checked_max_gap_ns(history: int, stride: int, max_gap_s: float) -> int:
    """Return ``max_gap_s`` in ns, after a check of the three numbers of a window.

    Raises:
        InvalidValue: one of them is not accepted.
    """
    if history < 1 or stride < 1 or not max_gap_s > 0:
        raise InvalidValue(
            f"history is {shown(history)}, stride {shown(stride)}, max_gap_s {shown(max_gap_s)}; "
            "accepted: 1 or more, and a time above 0"
        )
    return round(max_gap_s * 1e9) if max_gap_s < _MOST_NS / 1e9 else _MOST_NS


def follows(step_ns: Any, same_episode: Any, same_layout: Any, max_gap_ns: int) -> Any:
    """Whether a frame continues the one before it, for single values or for arrays.

    ``step_ns`` is the time from one frame to the next. A step back, a step of 0, a step longer than
    ``max_gap_ns``, another episode and another layout are breaks: a window never spans one.
    """
    return (step_ns > 0) & (step_ns <= max_gap_ns) & same_episode & same_layout


def checked_ages(
    history: int, stride: int, stride_s: float | None, tolerance_s: float
) -> LayoutHistory | None:
    """Return the rule of windows by age, or None without ``stride_s``.

    Raises:
        InvalidValue: a number is not accepted, or ``stride`` is given too.
    """
    if stride_s is None:
        return None
    if stride != 1:
        raise InvalidValue(
            f" is {shown(stride)} beside a stride_s; accepted: one of the two", argument="stride"
        )
    return LayoutHistory.of(history, stride_s, tolerance_s, name="history")


def views_of(layout: Layout, mask: np.ndarray) -> dict[str, Any]:
    """Return the image size and frame_id of each camera that is present by ``mask``."""
    present = {g.source for g in layout.groups if not g.step and mask[g.start : g.stop].any()}
    return {
        camera.name: (camera.source_size_px, camera.frame_id)
        for camera in layout.cameras
        if camera.name in present
    }
