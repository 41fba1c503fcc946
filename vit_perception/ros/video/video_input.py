"""The packets of one camera's video, decoded on a thread of their own.

Decoding takes milliseconds a packet, and poses come a thousand times a second on the executor's
thread. The order is kept: each packet is decoded after the one before.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy.node import Node

from vit_perception.files.errors import traced
from vit_perception.image.video.decoder import NoPicture, Outcome, VideoDecoder, VideoPicture
from vit_perception.image.video.packets import Packet, packet_of
from vit_perception.wire.records import BadInput

# Packets that wait for the decoder: 10 s at 30 Hz, or the size of 128 large key frames.
MOST_WAITING = 300
MOST_WAITING_BYTES = 64 << 20
# A packet of the largest size takes far less. A decoder that hangs ends with the process.
ENDING_S = 5.0
BEHIND = "decode_behind"
# Longer, and the stamp is of another clock than the node's: a bag's, or another machine's.
LONGEST_TRANSPORT_MS = 10_000.0


class Arrival(NamedTuple):
    """When a message came."""

    monotonic_ns: int
    clock_ns: int  # by the node's own clock

    @classmethod
    def now(cls, node: Node) -> "Arrival":
        """Return that of a message that comes now."""
        return cls(time.monotonic_ns(), node.get_clock().now().nanoseconds)

    def after_ms(self, stamp_ns: int) -> float | None:
        """Return how long after ``stamp_ns`` it came; None if the stamp is of another clock."""
        transport_ms = (self.clock_ns - stamp_ns) / 1e6
        return transport_ms if 0.0 <= transport_ms <= LONGEST_TRANSPORT_MS else None


class VideoInput:
    """Decodes what comes on one topic; ``give`` takes each picture, ``refuse`` the reason of each
    packet without one, and its text where it is to be said. Both are called on its thread.
    """

    def __init__(
        self, name: str, give: Callable[[VideoPicture], None], refuse: Callable[[str, str], None]
    ):
        self._give = give
        self._refuse = refuse
        self._decoder = VideoDecoder()
        self._waiting: deque[Packet | BadInput] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._stop = False
        self._behind = 0  # packets that were thrown away since the thread looked last
        self._thread = threading.Thread(target=self._run, name=f"video {name}", daemon=True)
        self._thread.start()

    def add(self, message: Any, origin: Any) -> None:
        """Queue the packet in ``message``; its picture carries ``origin``. It never waits."""
        packet: Packet | BadInput
        try:
            packet = packet_of(message, origin)
        except BadInput as error:
            packet = error
        with self._changed:
            if self._stop:
                return
            size = _size_of(packet)
            if (
                len(self._waiting) >= MOST_WAITING
                or self._waiting_bytes + size > MOST_WAITING_BYTES
            ):
                # All of them: without one, the pictures behind it are worth nothing.
                self._behind += len(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
            self._waiting.append(packet)
            self._waiting_bytes += size
            self._changed.notify()

    def stop(self, reason: str) -> None:
        """End the thread, and have what waits counted as ``reason``. Safe to call twice."""
        with self._changed:
            first, self._stop = not self._stop, True
            self._changed.notify()
        self._thread.join(ENDING_S)
        if first:
            left = len(self._waiting) + self._behind + self._decoder.waiting
            for _ in range(left):
                self._refuse(reason, "")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stop:
                    self._changed.wait()
                if self._stop:
                    return
                packet = self._waiting.popleft()
                self._waiting_bytes -= _size_of(packet)
                behind, self._behind = self._behind, 0
            try:
                self._take(packet, behind)
            except Exception as error:
                # A defect at one packet must not end the video.
                for index in range(max(1, self._decoder.waiting)):
                    self._refuse("error", "" if index else traced(error))
                self._decoder = VideoDecoder()

    def _take(self, packet: Packet | BadInput, behind: int) -> None:
        if behind:
            self._tell(self._decoder.lose("packets came faster than they are decoded"))
            text = (
                f"{behind} packets came faster than this machine decodes them, and are dropped; "
                "a lower rate or resolution at the publisher helps"
            )
            for index in range(behind):
                self._refuse(BEHIND, "" if index else text)
        if isinstance(packet, BadInput):
            self._tell(self._decoder.lose("a packet was refused"))
            self._refuse(packet.reason, str(packet))
        else:
            self._tell(self._decoder.take(packet))

    def _tell(self, outcomes: list[Outcome]) -> None:
        for each in outcomes:
            if isinstance(each, NoPicture):
                self._refuse(each.reason, each.text if each.is_first else "")
            else:
                self._give(each)


def _size_of(packet: Packet | BadInput) -> int:
    return len(packet.data) if isinstance(packet, Packet) else 0
