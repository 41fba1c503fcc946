"""What a form of tokens costs: bytes, the node's and the receiver's time, and what is kept of them.

Frames are those of a recording that the basis was not learnt from. Images stand beside: as they
were recorded, and natural pictures of 640x480 at the same quality.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from tools.thin_link.forms import DIMS, DTYPES, TokenForm, recorded_images, recorded_tokens

MOST_FRAMES = 75
ROUNDS = 5
WORST = 0.01
JPEG_QUALITY = 90
LARGE_PX = (640, 480)


def token_rows(
    folder: Path, bases: Path, rate_hz: float, dims: Sequence[int] = DIMS
) -> list[dict[str, Any]]:
    """Return a row for each form of the tokens in ``folder``; the files of bases are in ``bases``.

    Times are CPU time of this process a camera: the fastest of a few rounds, of each frame the
    same, and then the median of the frames.
    """
    layout, frames = recorded_tokens(folder, MOST_FRAMES)
    cameras = len(layout.cameras)
    forms = [TokenForm.of(name, layout, None) for name in DTYPES]
    forms += [
        TokenForm.of(f"basis_{count}", layout, bases / f"basis_{count}.safetensors")
        for count in dims
    ]
    patches = np.concatenate([np.arange(g.start, g.stop) for g in layout.groups if g.grid])
    rows = []
    for form in forms:
        messages = [SimpleNamespace(**form.encode(tokens)._asdict()) for tokens in frames]
        cosines = np.concatenate(
            [
                cosine(form.decode(message)[patches], tokens[patches])
                for message, tokens in zip(messages, frames)
            ]
        )
        size = len(messages[0].data)
        encode_ms = cpu_ms(form.encode, frames) / cameras
        decode_ms = cpu_ms(form.decode, messages) / cameras
        rows.append(
            {
                "form": form.name,
                "frame_kB": round(size / 1e3, 1),
                "MB_minute": round(60 * rate_hz * size / 1e6, 1),
                "cosine_mean": round(float(cosines.mean()), 5),
                "cosine_worst_percent": round(float(np.quantile(cosines, WORST)), 5),
                "encode_ms_camera": round(encode_ms, 3),
                "decode_ms_camera": round(decode_ms, 3),
            }
        )
    return rows


def image_rows(bag: Path, rate_hz: float) -> list[dict[str, Any]]:
    """Return a row for the recorded images of ``bag``, and one for pictures of 640x480."""
    frames = recorded_images(bag, MOST_FRAMES)
    recorded = [[bytes(m.data) for m in frame.values()] for frame in frames]
    pixels = cv2.imdecode(np.frombuffer(recorded[0][0], np.uint8), cv2.IMREAD_COLOR)
    name = f"JPEG {pixels.shape[1]}x{pixels.shape[0]}, as recorded"
    large = [[picture] * len(recorded[0]) for picture in large_pictures()]
    called = f"JPEG {LARGE_PX[0]}x{LARGE_PX[1]}, quality {JPEG_QUALITY}"
    return [
        _image_row(name, recorded, rate_hz),
        _image_row(called, large, rate_hz),
    ]


def _image_row(name: str, frames: list[list[bytes]], rate_hz: float) -> dict[str, Any]:
    size = statistics.mean(sum(map(len, frame)) for frame in frames)
    first = [frame[0] for frame in frames]
    return {
        "form": name,
        "frame_kB": round(size / 1e3, 1),
        "MB_minute": round(60 * rate_hz * size / 1e6, 1),
        "decode_ms_camera": round(cpu_ms(_decoded, first), 3),
    }


def _decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def large_pictures() -> list[bytes]:
    """Return the package's natural pictures as JPEGs of 640x480."""
    folder = resources.files("vit_perception.engines") / "parity_pictures"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".jpg")), key=lambda f: f.name)
    pictures = [cv2.resize(_decoded(f.read_bytes()), LARGE_PX) for f in files]
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return [cv2.imencode(".jpg", picture, quality)[1].tobytes() for picture in pictures]


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine similarity (T,) of the rows of two arrays (T, D)."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / lengths


def cpu_ms(step: Callable[[Any], Any], inputs: list[Any]) -> float:
    """Return the CPU time of ``step`` in ms: of each input the fastest round, then the median."""
    step(inputs[0])  # caches and lazily made arrays are not part of a frame
    fastest = [min(_once_ms(step, each) for _ in range(ROUNDS)) for each in inputs]
    return statistics.median(fastest)


def _once_ms(step: Callable[[Any], Any], given: Any) -> float:
    started_ns = time.process_time_ns()
    step(given)
    return (time.process_time_ns() - started_ns) / 1e6
