"""A running node in a Rerun viewer: what `watch` shows, message by message.

Optional: ``pip install rerun-sdk``.
"""

import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.image.opencv import cv2
from vit_perception.viewing.rerun_entities import (
    log_hand,
    log_path,
    log_scores,
    part,
    rerun_sdk,
)
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

NEEDED_BY = "watch"
LONGEST_EDGE_PX = 320  # of an image that is shown; a larger one is shrunk
MOST_ENTITIES = 2000  # names come from messages: no flood of them fills the viewer
MOST_CAMERAS = 8  # with views of their own
PATH_POSES = 1000  # of an arm's path, the latest
# Curves and messages that the views do not name are in the viewer's list of entities.
FIGURES = "diagnostics"
MESSAGES = "messages"


class LiveLog:
    """Sends to the viewer at ``url``: ``with LiveLog(url, name) as log: log.image(...)``.

    Entities are ``<camera>/image``, ``/pca``, ``/attention`` and ``/score/<class>``;
    ``<arm>/hand`` and ``<arm>/path`` (m); ``diagnostics/<key>/<status>``; ``messages``. Images have
    the stamp of their message on the timeline ``stamp``; the viewer's own ``log_time``, when they
    came, holds for everything. Pixels are not compressed: browsers decode JPEG too slowly.

    Memory: the latest ``PATH_POSES`` positions of each arm, and what the viewer has not taken yet.
    Send nothing while :meth:`delivered` is False, and that stays one message of each topic.

    Raises:
        ImportError: rerun-sdk is not installed; the message has the pip command.
    """

    def __init__(self, url: str, name: str):
        self._rerun = rerun_sdk(NEEDED_BY)
        self._recording = self._rerun.RecordingStream(
            "vit_perception_watch", recording_id=str(uuid.uuid4())
        )
        self._recording.connect_grpc(url)
        self._recording.send_recording_name(part(name))
        self._paths: dict[str, deque[np.ndarray]] = {}
        self._entities: set[tuple[str, ...]] = set()

    def __enter__(self) -> "LiveLog":
        return self

    def __exit__(self, *raised: object) -> None:
        # Not `disconnect`: it waits for a viewer that takes nothing any more.
        self._recording = None

    def delivered(self, limit_s: float) -> bool:
        """Wait up to ``limit_s``; whether the viewer has taken everything."""
        try:
            self._recording.flush(timeout_sec=limit_s)
        except RuntimeError:
            return False
        return True

    def show(self, layout: Layout) -> None:
        """Arrange the viewer for the cameras, arms and classes of ``layout``."""
        views = self._rerun.blueprint
        self._recording.send_blueprint(
            views.Blueprint(
                views.Vertical(
                    *_camera_rows(views, layout),
                    views.Horizontal(*_curves(views, layout)),
                    views.TextLogView(origin=MESSAGES, name="messages"),
                    row_shares=[
                        *[3] * min(len(layout.cameras), MOST_CAMERAS),
                        *[2, 1],
                    ],
                ),
                views.BlueprintPanel(state="collapsed"),
                views.SelectionPanel(state="collapsed"),
                views.TimePanel(state="collapsed", timeline="log_time", play_state="following"),
            )
        )

    def image(self, camera: str, view: str, pixels: np.ndarray, stamp_ns: int) -> None:
        """Show an RGB image (H, W, 3) uint8 of a camera: ``image``, ``pca`` or ``attention``."""
        if self._knows(camera, view):
            self._at(stamp_ns)
            self._recording.log([part(camera), view], self._rerun.Image(shrunk(pixels)))

    def scores(self, camera: str, scores: Mapping[str, float], stamp_ns: int) -> None:
        """Show the score of each class, 0 to 1."""
        self._at(stamp_ns)
        known = {label: s for label, s in scores.items() if self._knows(camera, "score", label)}
        log_scores(self._recording, part(camera), known)

    def pose(
        self, arm: str, position_m: np.ndarray, quaternion_xyzw: np.ndarray, stamp_ns: int
    ) -> None:
        """Show where an arm's hand is and has been."""
        if not self._knows(arm, "hand"):
            return
        self._at(stamp_ns)
        path = self._paths.setdefault(arm, deque(maxlen=PATH_POSES))
        path.append(position_m)
        log_hand(self._recording, part(arm), position_m, quaternion_xyzw)
        # Not static: the server never forgets what is.
        log_path(self._recording, part(arm), np.stack(path), static=False)

    def figures(self, status: str, figures: Mapping[str, float]) -> None:
        """Show the numbers of one status of /diagnostics; a key's part after a dot is a level."""
        self._recording.reset_time()
        for key, value in figures.items():
            path = (*key.split(".", 1), status)
            if self._knows(*path):
                self._recording.log([FIGURES, *map(part, path)], self._rerun.Scalars(value))

    def message(self, text: str, level: str = "INFO") -> None:
        """Add a line: ``level`` is INFO, WARN or ERROR."""
        self._recording.reset_time()
        line = self._rerun.TextLog(printable(text, MOST_SHOWN), level=level)
        self._recording.log(MESSAGES, line)

    def _at(self, stamp_ns: int) -> None:
        self._recording.set_time("stamp", timestamp=stamp_ns / NANOSECONDS_PER_SECOND)

    def _knows(self, *path: str) -> bool:
        """Whether this entity is shown; the first ``MOST_ENTITIES`` are."""
        if path not in self._entities and len(self._entities) < MOST_ENTITIES:
            self._entities.add(path)
        return path in self._entities


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return ``pixels`` with the longer edge at ``LONGEST_EDGE_PX`` at most."""
    factor = LONGEST_EDGE_PX / max(pixels.shape[:2])
    if factor >= 1.0:
        return np.ascontiguousarray(pixels)
    height, width = (max(1, round(edge * factor)) for edge in pixels.shape[:2])
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)


def _camera_rows(views: Any, layout: Layout) -> Iterable[Any]:
    """One row for each camera: image, PCA, attention, and its classes over time."""
    for camera in layout.cameras[:MOST_CAMERAS]:
        name = part(camera.name)
        row = [
            views.Spatial2DView(origin=_path(name, view), name=f"{name}: {view}")
            for view in ("image", "pca", "attention")
        ]
        if camera.labels:
            row.append(views.TimeSeriesView(origin=_path(name, "score"), name=f"{name}: classes"))
        yield views.Horizontal(*row)


def _curves(views: Any, layout: Layout) -> Iterable[Any]:
    """Paths of the arms, age of the outputs, and what was dropped."""
    arms = [part(source.name) for source in layout.samples if source.kind == "pose"]
    if arms:
        paths = [f"+ {_path(arm, '**')}" for arm in arms]
        yield views.Spatial3DView(origin="/", contents=paths, name="hands (m)")
    for name, keys in (
        ("age of the outputs (ms)", ("latency_p50_ms/age", "latency_p99_ms/age")),
        ("images a second", ("published_hz",)),
        ("dropped images", ("dropped",)),
    ):
        contents = [f"+ /{FIGURES}/{key}/**" for key in keys]
        yield views.TimeSeriesView(origin=f"/{FIGURES}", contents=contents, name=name)


def _path(*parts: str) -> str:
    """Return an entity's path as the viewer's queries read it."""
    import rerun

    return "/" + "/".join(
        each if each == "**" else rerun.escape_entity_path_part(each) for each in parts
    )
