"""What people want to see of a recording: pictures, poses, classes and latencies of every frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vit_perception.datasets.encode_recording import Dropped, SkippedMessages, replay_from
from vit_perception.pipeline.feature_views import attention_view
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader
from vit_perception.viewing.contact_sheet import CameraPanel, Moment
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, CameraResult, FrameResult

SHEET_ROWS = 6


@dataclass(frozen=True, eq=False)
class InspectedFrame:
    """One frame: seconds into the recording, its panels by camera, class scores by camera,
    positions in m and quaternions by arm, joint numbers by state, and latencies in ms: stages here,
    and ``record`` on the robot (recorded minus stamp).
    """

    stamp_ns: int
    time_s: float
    panels: dict[str, CameraPanel]
    scores: dict[str, dict[str, float]]
    poses: dict[str, tuple[np.ndarray, np.ndarray]]
    states: dict[str, np.ndarray]
    latency_ms: dict[str, float]

    def moment(self) -> Moment:
        """The frame as a row of a contact sheet; the class is the mean of the cameras that have
        one.
        """
        sums: dict[str, float] = {}
        for scores in self.scores.values():
            for label, score in scores.items():
                sums[label] = sums.get(label, 0.0) + score / len(self.scores)
        best = max(sums, key=sums.get) if sums else ""
        return Moment(self.time_s, "", best, sums.get(best, 0.0), tuple(self.panels.values()))


def inspected(
    pipeline: Pipeline, bag: BagReader
) -> Iterator[InspectedFrame | Dropped | SkippedMessages]:
    """Every frame of ``bag``, in the order of recording. Arrays are copies. Raises BagError."""
    first_ns: int | None = None
    for replayed in replay_from(pipeline, bag):
        result = replayed.result
        if replayed.skips.counts:
            yield replayed.skips
        if isinstance(result, Dropped):
            yield result
        if not isinstance(result, FrameResult):
            continue
        first_ns = result.stamp_ns if first_ns is None else first_ns
        yield InspectedFrame(
            result.stamp_ns,
            (result.stamp_ns - first_ns) / NANOSECONDS_PER_SECOND,
            {name: _panel(pipeline, name, camera) for name, camera in result.cameras.items()},
            {
                name: {c.class_id: c.score for c in camera.classes}
                for name, camera in result.cameras.items()
                if camera.classes
            },
            {
                name: (found.value.position_m, found.value.quaternion_xyzw)
                for name, found in result.poses.items()
                if found.value is not None
            },
            {
                name: found.value.numbers
                for name, found in result.states.items()
                if found.value is not None
            },
            {**result.stage_ms, "record": (replayed.recorded_ns - result.stamp_ns) / 1e6},
        )


def _panel(pipeline: Pipeline, name: str, camera: CameraResult) -> CameraPanel:
    rgb = pipeline.network_view(camera.image)
    best = max(camera.classes, key=lambda c: c.score, default=None)
    return CameraPanel(
        name,
        rgb,
        np.array(camera.patch_tokens),
        camera.grid,
        attention_view(camera.cls_attention, camera.grid, rgb),
        best.class_id if best else "",
        best.score if best else 0.0,
    )
