"""How far a camera's picture is from what a reference has learnt, in numbers."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CameraShift:
    """Where the static background is, against where it was when the reference was learnt."""

    # How far the background has moved in the image, px of the camera's image, at its centre: x to
    # the right, y down.
    x_px: float
    y_px: float
    # How far it has turned about the image's centre: positive from x towards y, clockwise on the
    # screen.
    rotation_deg: float
    # Mean cosine similarity of the background to the reference after the move is undone, -1 to 1.
    agreement: float

    @property
    def length_px(self) -> float:
        """How far the centre has moved."""
        return math.hypot(self.x_px, self.y_px)


# The names of ``CameraChange.numbers``.
NUMBERS = ("novelty", "score", "x_px", "y_px", "rotation_deg", "agreement")


@dataclass(frozen=True)
class CameraChange:
    """What the monitor found in one image."""

    # Share of the held-out frames of the reference that are less novel, 0 to 1.
    novelty: float
    # What it is the rank of. 1 is the limit that 99 % of held-out frames stay below in each of its
    # parts; it has no upper bound.
    score: float
    # None where the background does not show one.
    shift: CameraShift | None
    # Why there is none; empty if there is one.
    why_no_shift: str = ""

    @property
    def numbers(self) -> tuple[float, ...]:
        """Novelty, score, then x, y (px), rotation (degrees) and agreement; NaN without a shift."""
        shift = self.shift
        found = (
            (shift.x_px, shift.y_px, shift.rotation_deg, shift.agreement)
            if shift
            else (math.nan,) * 4
        )
        return (self.novelty, self.score, *found)

    def drawn(self) -> dict[str, dict[str, float]]:
        """Return the numbers that a picture over time shows, by unit and name."""
        numbers = {"score": {"novelty score, 1 is the limit": self.score, "rank": self.novelty}}
        if self.shift:
            numbers["px"] = {"x": self.shift.x_px, "y": self.shift.y_px}
            numbers["degrees"] = {"rotation": self.shift.rotation_deg}
        return numbers
