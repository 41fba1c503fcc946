"""Messages with one packet of a video: FFMPEGPacket and CompressedVideo.

Messages may be those of rclpy or rosbags, or any object with their fields.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from vit_perception.files.errors import shown
from vit_perception.image.encodings import ENCODINGS
from vit_perception.wire.records import BadInput, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

# A key frame of 4096 x 2304 px at the best quality takes less.
MOST_PACKET_BYTES = 16 << 20
CODECS = ("h264", "hevc", "vp9", "av1")
# Publishers name the codec, or the encoder that they use: libx264, hevc_nvenc, libvpx-vp9, ...
_CODEC_OF = (
    ("h264", re.compile(r"264|^avc")),
    ("hevc", re.compile(r"265|hevc")),
    ("vp9", re.compile(r"vp9")),
    ("av1", re.compile(r"av1")),
)
_LONGEST_ENCODING = 200
_KEY_FLAG = 1  # of FFMPEGPacket.flags, which are those of FFmpeg's packets


@dataclass(frozen=True, eq=False)
class Packet:
    """One packet of a video: as a rule what one picture takes."""

    data: bytes
    # One of CODECS.
    codec: str
    # Of the header, ns.
    stamp_ns: int
    # Of the header.
    frame_id: str
    # The publisher's own count (FFMPEGPacket.pts); None if it sends none.
    number: int | None = None
    # Whether the publisher says that it is a key frame; False if it says nothing.
    is_key: bool = False
    # What the caller knows of it, such as when it came.
    origin: Any = None


class _Header(NamedTuple):
    """The fields of a CompressedVideo that other messages have in their header."""

    stamp: Any
    frame_id: str


def packet_of(message: Any, origin: Any = None) -> Packet:
    """Return the packet in an FFMPEGPacket or a CompressedVideo.

    Raises:
        BadInput: ``stamp``, ``frame``, ``encoding``, ``short_data`` or ``size``.
    """
    is_ffmpeg = hasattr(message, "encoding")
    header = message.header if is_ffmpeg else _Header(message.timestamp, message.frame_id)
    stamp_ns = stamp_ns_of(header)
    check_frame_id(header.frame_id)
    size = len(message.data)
    if not 0 < size <= MOST_PACKET_BYTES:
        raise BadInput(
            "size" if size else "short_data",
            f"the packet has {size} bytes; accepted: 1 to {MOST_PACKET_BYTES}",
        )
    return Packet(
        data=bytes(message.data),
        codec=_codec_of(message.encoding) if is_ffmpeg else _named(message.format, "format"),
        stamp_ns=stamp_ns,
        frame_id=header.frame_id,
        number=int(message.pts) if is_ffmpeg else None,
        is_key=is_ffmpeg and bool(message.flags & _KEY_FLAG),
        origin=origin,
    )


def _codec_of(encoding: str) -> str:
    """Return the codec that ``encoding`` names: ``libx264``, or
    ``codec;pixel format;target format;original encoding``.
    """
    name, *rest = encoding[:_LONGEST_ENCODING].split(";")
    original = rest[2] if len(rest) > 2 else ""
    if original and (original not in ENCODINGS or original.startswith("bayer_")):
        raise BadInput(
            "encoding",
            f"encoding is {shown(encoding)}: the images were {shown(original)} before they became "
            "video; accepted: images with colours, such as bgr8, rgb8 or mono8",
        )
    return _named(name, "encoding")


def _named(name: str, field: str) -> str:
    for codec, pattern in _CODEC_OF:
        if pattern.search(name[:_LONGEST_ENCODING].lower()):
            return codec
    raise BadInput("encoding", f"{field} is {shown(name)}; accepted: {', '.join(CODECS)}")
