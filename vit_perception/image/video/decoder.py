"""The decoder of one video: packets in the order in which they came, pictures with their stamps.

A picture of a video needs the pictures before it. So each packet is decoded, also if its picture
is not used; and from a packet that is lost or damaged on, pictures are dropped until the decoder
begins anew, at a key frame. The same packets give the same pictures, live and from a bag.
"""

from dataclasses import dataclass, field
from typing import Any

from vit_perception.files.errors import OperationFailed
from vit_perception.image.video.colours import rgb_of
from vit_perception.image.video.frame_numbers import FrameNumbers
from vit_perception.image.video.library import av_module, new_context
from vit_perception.image.video.packets import Packet
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, RgbImage

# 4096 x 2304. A decoder keeps up to 17 pictures: of 8-bit 4:2:0 they take 0.24 GB.
MOST_PX = 4096 * 2304
# A picture comes at most so many packets after its own: what H.264 and HEVC allow to re-order.
MOST_DELAYED = 16
# As of images that are no video (streams.camera_sync).
JUMP_BACK_NS = NANOSECONDS_PER_SECOND
# So often in a row a publisher's count has to grow by 1 until another step is a loss.
_COUNTED = 3
_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
FORMATS = (*_FORMATS, *(f"{name}10le" for name in _FORMATS[:3]), "nv12", "gray", "gbrp")

NO_KEY_FRAME, NO_PICTURE, TIME_JUMP = "no_key_frame", "no_picture", "time_jump"
JOINED = "the video is joined in its middle"
CURE = (
    "pictures come from the next key frame on; if that takes long, have the publisher send key "
    "frames more often (gop_size)"
)
LOSS_CURE = f"{CURE}; if packets get lost, make the topic reliable (docs/cameras.md)"


@dataclass(frozen=True)
class _Stamp:
    sec: int
    nanosec: int


@dataclass(frozen=True)
class PictureHeader:
    """Stamp and frame of a picture's packet, with the fields of a std_msgs/Header."""

    stamp: _Stamp
    frame_id: str

    @classmethod
    def of(cls, packet: Packet) -> "PictureHeader":
        """Return that of the picture of ``packet``."""
        seconds, nanoseconds = divmod(packet.stamp_ns, NANOSECONDS_PER_SECOND)
        return cls(_Stamp(seconds, nanoseconds), packet.frame_id)


@dataclass(frozen=True, eq=False)
class VideoPicture:
    """A decoded picture. Calling it makes the pixels: one that is superseded never costs that."""

    packet: Packet = field(repr=False)
    # PyAV's.
    frame: Any = field(repr=False)

    @property
    def header(self) -> PictureHeader:
        """Stamp and frame of its packet."""
        return PictureHeader.of(self.packet)

    @property
    def size_bytes(self) -> int:
        """The memory that it holds, about."""
        return sum(plane.buffer_size for plane in self.frame.planes)

    def __call__(self) -> RgbImage:
        """Return the picture as RGB.

        The stream says how: BT.601, BT.709 or BT.2020, limited or full range. One that does not say
        it is BT.601 with limited range, as FFmpeg takes it.

        Raises:
            BadInput: ``encoding`` or ``decode``.
        """
        try:
            pixels = rgb_of(self.frame)
        except BadInput:
            raise
        except Exception as error:  # of FFmpeg, by version of PyAV another class
            raise BadInput("decode", f"the picture has no colours: {error}") from error
        return RgbImage(pixels, self.packet.stamp_ns, self.packet.frame_id)


@dataclass(frozen=True, eq=False)
class NoPicture:
    """A packet that gives no picture, and why."""

    packet: Packet = field(repr=False)
    # The short key under which it is counted.
    reason: str
    # What is the case, and what to do.
    text: str
    # Whether it is the first one of a row for the same reason.
    is_first: bool = True


Outcome = VideoPicture | NoPicture


class VideoDecoder:
    """Takes the packets of one topic. Each gives one outcome, in time: a picture, or none.

    Memory: what FFmpeg keeps (see MOST_PX), and the packets whose pictures are to come.
    """

    def __init__(self) -> None:
        self._codec = ""
        self._context: Any = None
        self._numbers = FrameNumbers()
        self._count = 0
        # Decoded, with their pictures still to come, by their number in this decoder.
        self._waiting: dict[int, Packet] = {}
        self._newest_ns = 0
        # Why there is no picture to build on; empty while there is one.
        self._lost = JOINED
        self._said_lost = False
        self._last_number: int | None = None
        self._steps_of_one = 0

    @property
    def waiting(self) -> int:
        """The number of packets whose outcome is still to come."""
        return len(self._waiting)

    def take(self, packet: Packet) -> list[Outcome]:
        """Decode ``packet``; return what is known now, of it and of packets before it."""
        outcomes: list[Outcome] = []
        if packet.stamp_ns < self._newest_ns - JUMP_BACK_NS:
            outcomes += self._begin_anew("time has jumped back", TIME_JUMP)
            self._newest_ns = 0
        self._newest_ns = max(self._newest_ns, packet.stamp_ns)
        if packet.codec != self._codec:
            outcomes += self._begin_anew(JOINED if not self._codec else "the codec has changed")
            try:
                self._context = new_context(packet.codec, MOST_PX)
            except OperationFailed as error:
                self._codec = ""
                return [*outcomes, NoPicture(packet, "encoding", str(error))]
            self._codec = packet.codec
            self._numbers = FrameNumbers()
            self._last_number, self._steps_of_one = None, 0
        if gap := self._gap(packet):
            outcomes += self._begin_anew(f"packets were lost: {gap}")
        return outcomes + self._decode(packet)

    def lose(self, why: str) -> list[Outcome]:
        """A packet is missing: pictures come from the next key frame on."""
        return self._begin_anew(why)

    def rest(self) -> list[Outcome]:
        """Return what is still to come, at the end of the video."""
        if self._context is None:
            return []
        outcomes: list[Outcome] = []
        try:
            outcomes += self._pictures(self._context.decode(None))
        except av_module().FFmpegError:
            pass
        outcomes += self._without_picture(self._count)
        self._codec, self._context = "", None
        return outcomes

    def _gap(self, packet: Packet) -> str:
        """Return what is missing between the packet before and ``packet``."""
        before, self._last_number = self._last_number, packet.number
        gap = self._numbers.gap(packet.data) if packet.codec == "h264" else ""
        if before is None or packet.number is None:
            return gap
        counted = self._steps_of_one >= _COUNTED
        is_next = packet.number == before + 1
        self._steps_of_one = self._steps_of_one + 1 if is_next else 0
        # The count is of pictures: with re-ordered ones it goes to and fro.
        if counted and not is_next and not self._is_reordered:
            self._steps_of_one = _COUNTED
            return f"pts goes from {before} to {packet.number}"
        return gap

    @property
    def _is_reordered(self) -> bool:
        return bool(getattr(self._context, "has_b_frames", False))

    def _begin_anew(self, why: str, reason: str = NO_KEY_FRAME) -> list[Outcome]:
        """Forget all pictures: the next one is that of a key frame."""
        dropped: list[Outcome] = [
            NoPicture(packet, reason, f"its picture was to come later, and {why}", index == 0)
            for index, packet in enumerate(self._waiting.values())
        ]
        self._waiting.clear()
        if self._context is not None:
            self._context.flush_buffers()
        self._numbers.forget()
        self._lost, self._said_lost = why, False
        return dropped

    def _decode(self, packet: Packet) -> list[Outcome]:
        av = av_module()
        number = self._count
        self._count += 1
        self._waiting[number] = packet
        coded = av.Packet(packet.data)
        # Not the publisher's: it may repeat. The picture brings it back.
        coded.pts = number
        try:
            frames = self._context.decode(coded)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            del self._waiting[number]
            return self._failed(packet, " ".join(str(error).split()))
        outcomes = self._pictures(frames)
        last = number - MOST_DELAYED if self._is_reordered else number
        return outcomes + self._without_picture(last)

    def _failed(self, packet: Packet, error: str) -> list[Outcome]:
        if self._lost and not packet.is_key:
            return [self._no_key_frame(packet)]
        text = (
            f"a packet of {len(packet.data)} bytes does not decode as {packet.codec}: {error}; "
            f"accepted: whole packets, pictures of up to {MOST_PX} px; {CURE}"
        )
        outcomes = self._begin_anew("a packet is damaged")
        self._said_lost = True
        return [*outcomes, NoPicture(packet, "decode", text)]

    def _pictures(self, frames: list[Any]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for frame in frames:
            packet = self._waiting.pop(frame.pts, None)
            if packet is None:
                continue  # a second picture of one packet, or one that was given up
            if frame.is_corrupt:
                outcomes += self._failed(packet, "the decoder calls its picture corrupt")
                break
            if self._lost:
                # The decoder of H.264 gives no picture before it is whole, also where a stream has
                # no key frames and refreshes its pictures bit by bit. Others may give what is not.
                if not (frame.key_frame or self._codec == "h264"):
                    outcomes.append(self._no_key_frame(packet))
                    continue
                outcomes += self._without_picture(frame.pts - 1)
                self._lost = ""
            if frame.format.name not in FORMATS:
                text = f"pixels are {frame.format.name}; accepted: {', '.join(FORMATS)}"
                outcomes.append(NoPicture(packet, "encoding", text))
            else:
                outcomes.append(VideoPicture(packet, frame))
        return outcomes

    def _without_picture(self, last: int) -> list[Outcome]:
        """Give up the packets up to number ``last``: no picture of them will come."""
        outcomes: list[Outcome] = []
        for number in [n for n in self._waiting if n <= last]:
            packet = self._waiting.pop(number)
            if self._lost:
                outcomes.append(self._no_key_frame(packet))
            else:
                text = (
                    "the packet holds no picture; accepted: one packet with one picture a message"
                )
                outcomes.append(NoPicture(packet, NO_PICTURE, text))
        return outcomes

    def _no_key_frame(self, packet: Packet) -> NoPicture:
        is_first, self._said_lost = not self._said_lost, True
        cure = CURE if self._lost == JOINED else LOSS_CURE
        return NoPicture(packet, NO_KEY_FRAME, f"{self._lost}; {cure}", is_first)
