"""What ``/diagnostics`` says of a configured node, once a second."""

import threading
import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.worker import EncoderWorker
from vit_perception.ros import diagnostics
from vit_perception.ros.reporter import Reporter
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.source import sampled


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """What a status is made of."""

    pipeline: Pipeline | None
    worker: EncoderWorker
    # Since the latest activate; None before the first one.
    sync: CameraSync | None
    samples: SampleInputs | None
    # When that was: monotonic, ns.
    started_ns: int
    # Whether it subscribes.
    active: bool
    # What has gone wrong, "" where nothing has: the engine raised; the GPU is lost.
    failure: str
    gpu_lost: str

    def engine(self) -> tuple[str, bytes]:
        """The engine's message and level."""
        if self.gpu_lost:
            return self.gpu_lost, diagnostics.ERROR
        if self.failure:
            return f"failed, activate opens it anew: {self.failure}", diagnostics.ERROR
        if not self.active and self.worker.busy:
            return f"stuck: {self.worker.doing}", diagnostics.ERROR
        return "running" if self.active else "ready", diagnostics.OK


def report(state: NodeState, changed: threading.Condition, reporter: Reporter) -> None:
    """Publish ``state``, and log what is wrong with a source. ``changed`` is the lock around what
    was received.
    """
    name = reporter.label
    statuses: list[DiagnosticStatus] = [
        diagnostics.engine_status(name, state.pipeline, *state.engine()),
        diagnostics.process_status(name),
    ]
    if state.sync is not None:
        sources = state.pipeline.sources
        with changed:
            now_ns = time.monotonic_ns()
            reports = diagnostics.camera_statuses(
                name, state.sync, now_ns, state.worker.camera_latencies, state.started_ns
            )
            reports += diagnostics.sample_statuses(name, sampled(sources), state.samples, now_ns)
        if state.active:
            reporter.warn_of(sources, reports)
        statuses += [found.status for found in reports]
        statuses += [diagnostics.latency_status(name, state.worker.latencies)]
    reporter.publish(*statuses)
