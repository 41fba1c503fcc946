"""Whether a camera's driver sends a message beside each image, which is then worth waiting for."""

import time
from collections import deque

# Stamps of messages that are remembered: those of images that wait.
_STAMPS = 64
# So many images in a row must have had a message of their own stamp.
_IMAGES = 2
# A topic on which nothing has come for this time is not waited for.
SILENT_S = 1.0


class Pairing:
    """Learns from stamps whether one topic (CameraInfo, depth) comes with each image of a camera.

    A latched message, or one that comes less often than images, would otherwise delay each image by
    the longest wait. The first images are waited for, because nothing is known yet.
    """

    def __init__(self) -> None:
        self._stamps_ns: deque[int] = deque(maxlen=_STAMPS)
        self._were_paired: deque[bool] = deque(maxlen=_IMAGES)
        self._image_ns: int | None = None  # the latest image's stamp
        self._heard_ns = time.monotonic_ns()

    def came(self, stamp_ns: int) -> None:
        """A message of ``stamp_ns`` has come."""
        self._stamps_ns.append(stamp_ns)
        self._heard_ns = time.monotonic_ns()

    def has(self, stamp_ns: int) -> bool:
        """Whether a message of this stamp has come."""
        return stamp_ns in self._stamps_ns

    def is_expected(self, stamp_ns: int) -> bool:
        """Take the next image; return whether a message of its stamp is on its way, as it seems."""
        if self._image_ns is not None:
            self._were_paired.append(self.has(self._image_ns))
        self._image_ns = stamp_ns
        is_silent = time.monotonic_ns() - self._heard_ns > SILENT_S * 1e9
        return not is_silent and all(self._were_paired) and not self.has(stamp_ns)
