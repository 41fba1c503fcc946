"""A recording for the Rerun viewer (https://rerun.io), written frame by frame.

Optional: ``pip install rerun-sdk``.
"""

import re
from array import array
from pathlib import Path

import numpy as np

from vit_perception.files.atomic import sweep, whole_file
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.pipeline.feature_views import PcaView
from vit_perception.viewing.contact_sheet import CameraPanel
from vit_perception.viewing.inspect_frames import InspectedFrame
from vit_perception.viewing.rerun_entities import log_hand, log_path, log_scores, rerun_sdk
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

JPEG_QUALITY = 85
NEEDED_BY = "an .rrd file"


class RerunLog:
    """Writes frames to an .rrd file: ``with RerunLog(path, name) as log: log.add(frame)``.

    Times are the image stamps, on the timeline ``stamp``. Entities are ``<camera>/image``,
    ``/pca``, ``/attention``, ``/score/<class>`` and ``/change``; ``<arm>/hand`` and
    ``<arm>/path`` (m); ``<state>/<number>``; ``latency_ms/<stage>``. The complete file appears at
    ``path`` when the block ends without an error.

    Raises:
        ImportError: rerun-sdk is not installed; the message has the pip command.
    """

    def __init__(self, path: Path, name: str):
        self._rerun = rerun_sdk(NEEDED_BY)
        # Its id is its own: the viewer merges recordings of one id.
        self._recording = self._rerun.RecordingStream("vit_perception")
        sweep(path.parent, re.escape(path.name))  # gigabytes that a killed run has left
        self._file = whole_file(path)
        self._recording.save(self._file.__enter__())
        self._recording.send_recording_name(printable(name, MOST_SHOWN, keep=""))
        self._pca: dict[str, PcaView] = {}
        # x, y and z in turn, in the viewer's own precision.
        self._paths: dict[str, array] = {}

    def __enter__(self) -> "RerunLog":
        return self

    def __exit__(self, *error) -> None:
        for arm, path in self._paths.items():
            positions = np.frombuffer(path, np.float32).reshape(-1, 3)
            log_path(self._recording, arm, positions, static=True)
        self._recording.flush()
        self._recording.disconnect()
        self._file.__exit__(*error)

    def add(self, frame: InspectedFrame) -> None:
        """Log one frame. Only the positions are kept in memory."""
        rerun = self._rerun
        recording = self._recording
        recording.set_time("stamp", timestamp=frame.stamp_ns / NANOSECONDS_PER_SECOND)
        for name, panel in frame.panels.items():
            self._add_panel(name, panel)
        for name, scores in frame.scores.items():
            log_scores(recording, name, scores)
        for name, change in frame.changes.items():
            for unit, numbers in change.drawn().items():
                for number, value in numbers.items():
                    recording.log([name, "change", unit, number], rerun.Scalars(value))
        for arm, (position_m, quaternion_xyzw) in frame.poses.items():
            self._paths.setdefault(arm, array("f")).extend(position_m.tolist())
            log_hand(recording, arm, position_m, quaternion_xyzw)
        for name, numbers in frame.states.items():
            for k, number in enumerate(numbers):
                recording.log(f"{name}/{k}", rerun.Scalars(float(number)))
        for stage, value in frame.latency_ms.items():
            recording.log(f"latency_ms/{stage}", rerun.Scalars(value))

    def _add_panel(self, name: str, panel: CameraPanel) -> None:
        pca = self._pca.setdefault(name, PcaView())(
            panel.patch_tokens, panel.grid, panel.rgb.shape[:2]
        )
        for view, pixels in (("image", panel.rgb), ("pca", pca), ("attention", panel.attention)):
            self._recording.log(
                f"{name}/{view}", self._rerun.Image(pixels).compress(jpeg_quality=JPEG_QUALITY)
            )
