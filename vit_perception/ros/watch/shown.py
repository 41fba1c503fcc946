"""What the viewer shows of a message."""

import math
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped

from vit_perception.files.errors import UserError, printable
from vit_perception.image.decode import DECODER_ERRORS, decode_compressed, decode_image
from vit_perception.image.video.decoder import VideoPicture
from vit_perception.ros.watch.live_topics import COMPRESSED_TYPE, LiveTopics, Reading
from vit_perception.viewing.live_log import LiveLog
from vit_perception.wire.layout import POSE_TYPE, Layout
from vit_perception.wire.records import BadInput
from vit_perception.wire.stamps import stamp_ns_of

MOST_CLASSES = 20  # of a message, best first
MOST_FIGURES = 100  # of a status
LONGEST_NUMBER = 30  # characters
REFUSED_PERIOD_S = 5.0  # between two lines about bad messages of one topic
_LEVELS = {DiagnosticStatus.OK: "INFO", DiagnosticStatus.WARN: "WARN"}


class Shown:
    """Hands what ``topics`` has received to ``log``, and tells what changes."""

    def __init__(self, topics: LiveTopics, log: LiveLog) -> None:
        self._topics = topics
        self._log = log
        self._sources: dict[str, bool] = {}
        self._said: dict[str, str] = {}  # by subject, the latest message
        self._refused_s: dict[str, float] = {}

    def update(self) -> list[str]:
        """Show everything new; return lines for the terminal."""
        lines = self._changes()
        for reading in self._topics.readings():
            try:
                self._show(reading)
            except (UserError, *DECODER_ERRORS) as error:
                self._refuse(reading, error)
        for name, status in self._topics.statuses().items():
            self._log.figures(name, figures_of(status))
            self._say(name, status.message, _LEVELS.get(status.level, "ERROR"))
        return lines

    def _changes(self) -> list[str]:
        """Follow the node's layout; say whether the node is there."""
        topics = self._topics
        lines = []
        layout = topics.layout
        # Views stay as the user has arranged them while the node has the same sources.
        if layout is not None and (sources := _sources_of(layout)) != self._sources:
            self._sources = sources
            self._log.show(layout)
            lines.append(f"showing {', '.join(printable(name, keep='') for name in sources)}")
        state = topics.refused
        if not state and layout is None:
            state = "no layout yet: the node is not configured"
        elif not state:
            state = "the node is there" if topics.present else "the node is gone; waiting for it"
        if self._say("watch", state, "INFO" if topics.present and not topics.refused else "WARN"):
            lines.append(state)
        return lines

    def _show(self, reading: Reading) -> None:
        (kind, name, type_name), message = reading
        if isinstance(message, BadInput):
            raise message
        stamp_ns = stamp_ns_of(message.header)
        if kind == "classes":
            best = message.results[:MOST_CLASSES]
            scores = {r.class_id: float(r.score) for r in best if math.isfinite(r.score)}
            self._log.scores(name, scores, stamp_ns)
        elif kind == "pose":
            self._log.pose(name, *_pose_of(message), stamp_ns)
        else:
            decode = decode_compressed if type_name == COMPRESSED_TYPE else decode_image
            image = message() if isinstance(message, VideoPicture) else decode(message)
            self._log.image(name, kind, image.pixels, stamp_ns)

    def _refuse(self, reading: Reading, error: Exception) -> None:
        """Say once in a while that a message cannot be shown."""
        subject = f"{reading.source.name} {reading.source.kind}"
        now_s = time.monotonic()
        if now_s - self._refused_s.get(subject, -REFUSED_PERIOD_S) >= REFUSED_PERIOD_S:
            self._refused_s[subject] = now_s
            self._log.message(f"{subject}: {error}", "WARN")

    def _say(self, subject: str, text: str, level: str) -> bool:
        """Add a line to the viewer's messages if it is new of this subject."""
        if self._said.get(subject) == text or (
            subject not in self._said and len(self._said) >= MOST_FIGURES
        ):
            return False
        self._said[subject] = text
        self._log.message(f"{subject}: {text}", level)
        return True


def _sources_of(layout: Layout) -> dict[str, bool]:
    """Return cameras and arms, and whether they have classes."""
    arms = {source.name: False for source in layout.samples if source.type == POSE_TYPE}
    return {camera.name: bool(camera.labels) for camera in layout.cameras} | arms


def figures_of(status: DiagnosticStatus) -> dict[str, float]:
    """Return the numbers of a status by key, at most ``MOST_FIGURES``."""
    found: dict[str, float] = {}
    for value in status.values[:MOST_FIGURES]:
        if len(value.value) > LONGEST_NUMBER:
            continue
        try:
            number = float(value.value)
        except ValueError:
            continue
        if math.isfinite(number):
            found[value.key] = number
    return found


def _pose_of(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    position = message.pose.position
    rotation = message.pose.orientation
    return (
        np.array([position.x, position.y, position.z]),
        np.array([rotation.x, rotation.y, rotation.z, rotation.w]),
    )
