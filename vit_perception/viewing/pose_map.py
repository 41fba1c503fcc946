"""The path of the arms as a small map: seen from above, in metres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_perception.streams.rotation import rotation_matrix

PAPER = (240, 240, 236)
LATER = (200, 200, 204)
INK = (25, 25, 30)
DIM = (110, 110, 118)
# Okabe and Ito's palette: colour-blind people can tell the colours apart, too.
ARMS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
FARTHEST_M = 1e9  # what is beyond it is no position of an arm
SMALLEST_M = 0.02  # a hand that stands still is not a cloud of noise that fills the map
LETTERS_PX = 13
TOP_PX = 30  # free for the scale
LINE_PX = 17  # free at the bottom for each position that is written
MOST_POSITIONS_WRITTEN = 2
MARGIN = 0.1  # of the path's part, free at each of its edges


@dataclass(frozen=True, eq=False)
class ArmPath:
    """Where the end effector of an arm was."""

    # (n,) seconds into the recording, rising.
    times_s: np.ndarray
    # (n, 3) in m.
    positions_m: np.ndarray


@dataclass(frozen=True, eq=False)
class HandPose:
    """The end effector of an arm at one time."""

    # (3,) in m.
    position_m: np.ndarray
    # (4,) xyzw.
    quaternion_xyzw: np.ndarray


def is_place(positions_m: np.ndarray) -> np.ndarray:
    """Return (n,) bool: which of ``positions_m`` (n, 2 or more) can be on a map."""
    return (np.abs(positions_m) < FARTHEST_M).all(axis=1)  # false for NaN


class PoseMap:
    """A map of ``side_px`` × ``side_px`` that holds every path, with one scale for x and y.

    x points to the right and y up: the robot is seen from above. What is no place
    (:func:`is_place`) is left out.
    """

    def __init__(self, paths: Mapping[str, ArmPath], side_px: int):
        self.side_px = side_px
        self._paths = paths
        points_m = np.concatenate(
            [p.positions_m[:, :2] for p in paths.values()] or [np.zeros((0, 2))]
        )
        points_m = points_m[is_place(points_m)]
        if not len(points_m):
            points_m = np.zeros((1, 2))
        low_m = points_m.min(axis=0)
        high_m = points_m.max(axis=0)
        self._centre_m = (low_m + high_m) / 2
        lines = min(len(paths), MOST_POSITIONS_WRITTEN)
        part_px = side_px - TOP_PX - lines * LINE_PX
        self.centre_px = (side_px / 2, TOP_PX + part_px / 2)
        extent_m = max(float((high_m - low_m).max()), SMALLEST_M)
        self.px_per_m = part_px * (1 - 2 * MARGIN) / extent_m

    def place_px(self, position_m: Sequence[float] | np.ndarray) -> tuple[float, float]:
        """Return (from the left, from the top) of a position (2 or 3 values in m)."""
        shift = (np.asarray(position_m[:2], np.float64) - self._centre_m) * self.px_per_m
        most_px = 9.0 * self.side_px  # the drawing takes no numbers of any size
        shift = np.clip(np.nan_to_num(shift, nan=most_px), -most_px, most_px)
        return float(self.centre_px[0] + shift[0]), float(self.centre_px[1] - shift[1])

    def scale_m(self) -> float:
        """Return the length of the scale: 1, 2 or 5 times a power of ten, up to half the side."""
        half_m = self.side_px / self.px_per_m / 2
        power = 10.0 ** np.floor(np.log10(half_m))
        return float(max(step * power for step in (1, 2, 5) if step * power <= half_m))

    def texts(self, hands: Mapping[str, HandPose]) -> list[str]:
        """Return a line for each arm: its position in m."""
        named = len(self._paths) > 1
        return [
            (f"{arm[:12]} " if named else "")
            + "  ".join(f"{axis} {value:.2f}" for axis, value in zip("xyz", hand.position_m))
            + " m"
            for arm, hand in list(hands.items())[:MOST_POSITIONS_WRITTEN]
        ]

    def draw(self, time_s: float, hands: Mapping[str, HandPose]) -> Image.Image:
        """Draw the paths, dark up to ``time_s``, and where the hands are then.

        A bar through the hand is its y axis, along which the fingers of a Panda open.
        """
        picture = Image.new("RGB", (self.side_px, self.side_px), PAPER)
        draw = ImageDraw.Draw(picture)
        for path, colour in zip(self._paths.values(), self._colours()):
            kept = is_place(path.positions_m)
            points = [self.place_px(p) for p in path.positions_m[kept]]
            past = int(np.searchsorted(path.times_s[kept], time_s, side="right"))
            for part, ink in ((points, LATER), (points[:past], colour)):
                if len(part) > 1:
                    draw.line(part, ink, 2)
        for arm, hand in hands.items():
            if is_place(hand.position_m[None])[0]:
                self._draw_hand(draw, hand, self._colour_of(arm))
        font = ImageFont.load_default(LETTERS_PX)
        length_px = self.scale_m() * self.px_per_m
        draw.line([(8, 8), (8 + length_px, 8)], INK, 2)
        draw.text((8, 11), f"{self.scale_m():g} m", DIM, font)
        for line, text in enumerate(reversed(self.texts(hands))):
            draw.text((6, self.side_px - (line + 1) * LINE_PX), text, DIM, font)
        return picture

    def _draw_hand(self, draw: ImageDraw.ImageDraw, hand: HandPose, colour) -> None:
        x_px, y_px = self.place_px(hand.position_m)
        axis = rotation_matrix(hand.quaternion_xyzw)[:2, 1] * 0.07 * self.side_px
        draw.line([(x_px - axis[0], y_px + axis[1]), (x_px + axis[0], y_px - axis[1])], INK, 4)
        draw.ellipse((x_px - 5, y_px - 5, x_px + 5, y_px + 5), colour, INK)

    def _colours(self):
        return [ARMS[k % len(ARMS)] for k in range(len(self._paths))]

    def _colour_of(self, arm: str):
        names = list(self._paths)
        return ARMS[names.index(arm) % len(ARMS)] if arm in names else INK
