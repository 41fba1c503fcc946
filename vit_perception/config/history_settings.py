"""Settings of the history: which earlier frames are sent beside the current one."""

from dataclasses import dataclass
from typing import ClassVar

from vit_perception.config.checks import BadSetting
from vit_perception.config.parameter import TOKENS, Section, param
from vit_perception.wire.layout_history import (
    LONGEST_STRIDE_S,
    MOST_STEPS,
    SHORTEST_STRIDE_S,
    LayoutHistory,
    refused,
)


@dataclass(frozen=True)
class HistorySettings(Section):
    """Earlier frames in ``~/tokens``, at fixed ages."""

    PREFIX: ClassVar[str] = "history."

    frames: int = param(
        1,
        "Frames in ~/tokens, the current one included; the others are 1, 2, ... strides older. 1 "
        "is off.",
        bounds=(1, MOST_STEPS),
        fixed=TOKENS,
    )
    stride_s: float = param(
        0.2,
        "Time from one frame of the history to the next, in s.",
        unit="s",
        bounds=(SHORTEST_STRIDE_S, LONGEST_STRIDE_S),
        fixed=TOKENS,
    )
    tolerance_s: float = param(
        0.0,
        "Largest distance of a frame from its age in the history, in s; without a frame that near, "
        "its tokens are masked. 0 is half of history.stride_s, the most that is accepted.",
        unit="s",
        bounds=(0.0, LONGEST_STRIDE_S / 2),
        fixed=TOKENS,
    )

    def __post_init__(self) -> None:
        self.check_parameters()
        if wrong := refused(self.frames, self.stride_s, self.tolerance_s):
            raise BadSetting(f"{self.prefix}{wrong.name}", wrong.value, wrong.accepted)

    @property
    def rule(self) -> LayoutHistory | None:
        """Which frames are chosen, as the layout says it; None if the history is off."""
        if self.frames == 1:
            return None
        return LayoutHistory.of(self.frames, self.stride_s, self.tolerance_s)
