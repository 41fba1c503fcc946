"""Image messages for the tests, without ROS: plain objects with the fields of sensor_msgs."""

import zlib
from types import SimpleNamespace

import numpy as np

from vit_perception.image.encodings import ENCODINGS, PLANAR_ENCODINGS


def header(sec: int = 12, nanosec: int = 345, frame_id: str = "wrist_optical") -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image(
    encoding: str,
    size: tuple[int, int],
    rows: np.ndarray | list,
    pad: int = 0,
    is_bigendian: int = 0,
) -> SimpleNamespace:
    """``rows`` is one row of bytes per row of the picture; ``pad`` bytes of 0xAB follow each."""
    rows = np.asarray(rows, np.uint8)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=0xAB)
    return SimpleNamespace(
        header=header(),
        height=size[0],
        width=size[1],
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=padded.shape[1],
        data=padded.tobytes(),
    )


def compressed(image_format: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(header=header(), format=image_format, data=data)


def random_rows(encoding: str, height: int, width: int) -> np.ndarray:
    """Rows of bytes of an image of ``encoding``, always the same ones."""
    rng = np.random.default_rng(zlib.crc32(encoding.encode()))
    if planar := PLANAR_ENCODINGS.get(encoding):
        return rng.integers(0, 256, (height * planar.rows_per_two // 2, width), np.uint8)
    packed = ENCODINGS[encoding]
    row_bytes = width * packed.channels * packed.sample_bytes
    return rng.integers(0, 256, (height, row_bytes), np.uint8)
