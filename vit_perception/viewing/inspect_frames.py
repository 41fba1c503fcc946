"""What `inspect` shows of each frame: images, poses, classes and latencies."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from vit_perception.datasets.encode_recording import Dropped, SkippedMessages, replay_from
from vit_perception.pipeline.feature_views import attention_view
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader
from vit_perception.viewing.contact_sheet import CameraPanel, SheetRow
from vit_perception.viewing.pose_map import HandPose
from vit_perception.wire.monitored import CameraChange
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, CameraResult, FrameResult

SHEET_ROWS = 6


@dataclass(frozen=True, eq=False)
class InspectedFrame:
    """One frame."""

    # Of the first camera present.
    stamp_ns: int
    # Seconds since the first frame.
    time_s: float
    # By camera.
    panels: dict[str, CameraPanel]
    # Scores of classes, 0 to 1, by camera and class.
    scores: dict[str, dict[str, float]]
    # Position (3,) in m and quaternion (4,) xyzw, by arm.
    poses: dict[str, tuple[np.ndarray, np.ndarray]]
    # Joint values (J,) in rad or m, by name of the joint state.
    states: dict[str, np.ndarray]
    # By stage; ``record`` is the time of recording minus the stamp, on the robot.
    latency_ms: dict[str, float]
    # With a reference, by camera.
    changes: dict[str, CameraChange] = field(default_factory=dict)

    def sheet_row(self) -> SheetRow:
        """Return the frame as a row of a contact sheet.

        Its class is the best one in the mean of all cameras that have classes.
        """
        sums: dict[str, float] = {}
        for scores in self.scores.values():
            for label, score in scores.items():
                sums[label] = sums.get(label, 0.0) + score / len(self.scores)
        best = max(sums, key=sums.get) if sums else ""
        return SheetRow(
            time_s=self.time_s,
            truth="",
            predicted=best,
            score=sums.get(best, 0.0),
            panels=tuple(self.panels.values()),
            hands={
                name: HandPose(position_m=position_m, quaternion_xyzw=quaternion_xyzw)
                for name, (position_m, quaternion_xyzw) in self.poses.items()
            },
        )


def inspected(
    pipeline: Pipeline, bag: BagReader
) -> Iterator[InspectedFrame | Dropped | SkippedMessages]:
    """Encode every frame of ``bag`` in the order of recording. Arrays are copies.

    Raises:
        BagError: The bag cannot be read.
    """
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
            stamp_ns=result.stamp_ns,
            time_s=(result.stamp_ns - first_ns) / NANOSECONDS_PER_SECOND,
            panels={
                name: _panel(pipeline, name, camera) for name, camera in result.cameras.items()
            },
            scores={
                name: {c.class_id: c.score for c in camera.classes}
                for name, camera in result.cameras.items()
                if camera.classes
            },
            poses={
                name: (sample.value.position_m, sample.value.quaternion_xyzw)
                for name, sample in result.poses.items()
                if sample.value is not None
            },
            states={
                name: sample.value.numbers
                for name, sample in result.states.items()
                if sample.value is not None
            },
            latency_ms={
                **result.stage_ms,
                "record": (replayed.recorded_ns - result.stamp_ns) / 1e6,
            },
            changes=result.changes,
        )


def _panel(pipeline: Pipeline, name: str, camera: CameraResult) -> CameraPanel:
    rgb = pipeline.network_view(camera.image, camera.roi)
    best = max(camera.classes, key=lambda c: c.score, default=None)
    return CameraPanel(
        camera=name,
        rgb=rgb,
        patch_tokens=np.array(camera.patch_tokens),
        grid=camera.grid,
        attention=attention_view(camera.cls_attention, camera.grid, rgb),
        predicted=best.class_id if best else "",
        score=best.score if best else 0.0,
    )
