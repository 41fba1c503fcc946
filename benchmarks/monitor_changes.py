"""The changes that benchmarks/monitor_bench.py makes to a recording."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vit_perception.datasets.reference.turned import moved
from vit_perception.image.decode import decode_compressed
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.records import RgbImage

# x and y in px, rotation in degrees.
MOVES = {
    f"shift {x} {y} px": (x, y, 0)
    for x, y in (
        *((4, 0), (0, -4), (-3, 3), (8, 0), (16, 0), (0, 16)),
        *((-21, 19), (28, -28), (40, 0), (0, -40)),
    )
} | {f"rotation {angle} degrees": (0, 0, angle) for angle in (1, -2, 3, -5)}
MOVES["shift 10 -6 px, rotation 2 degrees"] = (10, -6, 2)


def dirt() -> np.ndarray:
    """Return how much of each pixel of the lens is covered, (240, 320, 1)."""
    random = np.random.default_rng(0)
    spots = np.zeros((240, 320), np.float32)
    for _ in range(6):
        centre = int(random.integers(320)), int(random.integers(240))
        cv2.circle(spots, centre, int(random.integers(8, 26)), 1, -1)
    return cv2.GaussianBlur(spots, (0, 0), 6)[..., None] * 0.8


def hand(pixels: np.ndarray, number: int) -> np.ndarray:
    """A palm and four fingers that move through the picture."""
    pixels, x = pixels.copy(), 60 + 4 * number
    cv2.ellipse(pixels, (x, 200), (26, 40), 20, 0, 360, (205, 160, 130), -1)
    for k in range(4):
        cv2.line(pixels, (x - 22 + 14 * k, 170), (x - 30 + 18 * k, 120), (210, 165, 135), 11)
    return pixels


def thing(pixels: np.ndarray, number: int) -> np.ndarray:
    """A green box of 28 x 32 px on the table."""
    pixels = pixels.copy()
    cv2.rectangle(pixels, (190, 150), (218, 182), (30, 120, 60), -1)
    cv2.rectangle(pixels, (190, 150), (218, 156), (50, 160, 90), -1)
    return pixels


def blur(sigma_px: float) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda pixels, number: cv2.GaussianBlur(pixels, (0, 0), sigma_px)


def light(factor: float) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda pixels, number: (pixels * factor).astype(np.uint8)


def dirty(pixels: np.ndarray, number: int) -> np.ndarray:
    covered = dirt()
    return (pixels * (1 - covered) + covered * np.array([70, 60, 50])).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "blur 1 px": blur(1),
    "blur 2 px": blur(2),
    "dirt": dirty,
    "light 0.5": light(0.5),
    "light 0.15": light(0.15),
    "hand": hand,
    "another object": thing,
}


def changed(image: RgbImage, variant: str, number: int) -> RgbImage:
    """Return frame ``number`` of a variant."""
    if variant in MOVES:
        x_px, y_px, rotation_deg = MOVES[variant]
        return moved(image, x_px, y_px, rotation_deg)
    if variant in CHANGES:
        return replace(image, pixels=CHANGES[variant](np.array(image.pixels), number))
    return image


def frames_of(bag: Path, topics: dict[str, str]) -> dict[str, list[RgbImage]]:
    """Return the images of each camera."""
    found: dict[str, list[RgbImage]] = {camera: [] for camera in topics}
    cameras = {topic: camera for camera, topic in topics.items()}
    kinds = dict.fromkeys(cameras, "sensor_msgs/msg/CompressedImage")
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages(kinds):
            found[cameras[topic]].append(decode_compressed(message))
    return found
