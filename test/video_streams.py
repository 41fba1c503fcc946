"""Real videos, encoded with PyAV, as the messages that cameras send."""

import array
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from test.plain_messages import header_of

av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")

FRAME_NS = 33_000_000
BEGIN_NS = 5_000_000_000
SIZE_PX = (96, 160)
KEY_EVERY = 10
# Of each codec an encoder, and what makes it send each picture at once.
ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"},
    ),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1"}),
}


class Coded(NamedTuple):
    """One packet of an encoder."""

    index: int  # of its picture, in the order of the pictures
    is_key: bool
    data: bytes

    @property
    def stamp_ns(self) -> int:
        return BEGIN_NS + self.index * FRAME_NS


def pixels(index: int, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """A picture of coloured squares that move to the right."""
    height, width = size_px
    squares = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.roll(squares.repeat(8, 0).repeat(8, 1), 3 * index, axis=1)


@cache
def encoded(
    codec: str = "h264",
    count: int = 24,
    size_px: tuple[int, int] = SIZE_PX,
    b_frames: int = 0,
    options: tuple[tuple[str, str], ...] = (),
) -> tuple[Coded, ...]:
    """A video of ``pixels``, in the order of its packets; a key frame every KEY_EVERY pictures."""
    name, default = ENCODERS[codec]
    if name not in av.codec.codecs_available:
        pytest.skip(f"this build of PyAV has no encoder {name}")
    frames = []
    for index in range(count):
        frames.append(av.VideoFrame.from_ndarray(pixels(index, size_px), format="rgb24"))
        frames[-1].pts = index
    return coded(frames, codec, b_frames, dict(options or default))


def coded(frames, codec="h264", b_frames=0, options=None, pixel_format="yuv420p", **fields):
    """The packets of ``frames``; ``fields`` are those of the encoder's context."""
    context = av.CodecContext.create(ENCODERS[codec][0], "w")
    context.width, context.height = frames[0].width, frames[0].height
    context.pix_fmt = pixel_format
    context.time_base = Fraction(1, 30)
    context.framerate = Fraction(30)
    context.gop_size = KEY_EVERY
    context.max_b_frames = b_frames
    context.options = ENCODERS[codec][1] if options is None else options
    for name, value in fields.items():
        setattr(context, name, value)
    packets = [p for frame in [*frames, None] for p in context.encode(frame)]
    return tuple(Coded(p.pts, p.is_keyframe, bytes(p)) for p in packets)


def ffmpeg_message(packet: Coded, encoding: str = "h264;yuv420p;bgr8;bgr8", make=SimpleNamespace):
    """An FFMPEGPacket; ``make`` is its class."""
    message = make(
        header=header_of(packet.stamp_ns, "camera"),
        width=SIZE_PX[1],
        height=SIZE_PX[0],
        encoding=encoding,
        pts=packet.index,
        flags=int(packet.is_key),
        is_bigendian=False,
        data=array.array("B", packet.data),
    )
    return message


def foxglove_message(packet: Coded, codec: str = "h264", make=SimpleNamespace):
    """A CompressedVideo; ``make`` is its class."""
    return make(
        timestamp=header_of(packet.stamp_ns, "").stamp,
        frame_id="camera",
        data=array.array("B", packet.data),
        format=codec,
    )
