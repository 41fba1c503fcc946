"""What one activation of the node says: situations of its inputs, and the sign of life."""

import threading
import time
from collections.abc import Mapping

from rclpy.lifecycle import LifecycleNode

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.timing.latencies import StageLatencies
from vit_perception.ros import diagnostics
from vit_perception.ros.health.change_statuses import ChangeStatuses
from vit_perception.ros.health.input_watch import InputWatch
from vit_perception.ros.health.judge import Judge
from vit_perception.ros.health.sign_of_life import SignOfLife
from vit_perception.ros.reporter import Reporter
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.image_extras import ExtraInputs
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.source import derived, listening, sampled


class Health:
    """Looks at inputs and counters once a second, from activate to deactivate.

    ``changed`` is the lock around ``sync`` and ``samples``. The executor's thread calls it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        reporter: Reporter,
        *,
        changed: threading.Condition,
        sync: CameraSync,
        samples: SampleInputs,
        started_ns: int,
    ):
        self._node = node
        self._reporter = reporter
        self._changed = changed
        self._sync = sync
        self._samples = samples
        self.extras: ExtraInputs | None = None  # what comes beside the images
        self._judge = Judge(started_ns)
        self._life = SignOfLife(started_ns)
        self._changes = ChangeStatuses(reporter)
        self._watch = InputWatch(
            node,
            lambda topic, text: reporter.warn(topic, text, about="status"),
            reporter.events,
            started_ns,
        )

    def look(
        self, pipeline: Pipeline, latencies: Mapping[str, StageLatencies], receives: bool
    ) -> list[diagnostics.DiagnosticStatus]:
        """Return a status of each input, and say in the log what there is to say.

        ``latencies`` are those of each camera. Without ``receives`` the log hears nothing.
        """
        label = self._reporter.label
        with self._changed:
            now_ns = time.monotonic_ns()
            reports = diagnostics.camera_statuses(
                node_name=label,
                sync=self._sync,
                now_ns=now_ns,
                latencies=latencies,
                judge=self._judge,
                counts=self.extras.counts if self.extras else lambda camera: {},
            )
            reports += diagnostics.sample_statuses(
                label, sampled(pipeline.sources), self._samples, now_ns, self._judge
            )
            made = diagnostics.derived_statuses(label, derived(pipeline.sources), self._samples)
            line = self._life.line(
                now_ns,
                pipeline.settings.log.status_s,
                sync=self._sync,
                samples=self._samples,
                latencies=latencies,
            )
        if receives:
            self._watch.tell(listening(pipeline.sources), reports)
            if line:
                self._node.get_logger().info(line)
        return [
            *(report.status for report in reports),
            *made,
            *self._changes.look(pipeline, receives),
        ]
