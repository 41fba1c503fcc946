"""What ``/diagnostics`` says of a configured node, once a second."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.worker import EncoderWorker
from vit_perception.ros import diagnostics
from vit_perception.ros.health.health import Health
from vit_perception.ros.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """What a status is made of."""

    pipeline: Pipeline | None
    worker: EncoderWorker
    # Of its inputs, since the latest activate; None before the first one.
    health: Health | None
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


def report(state: NodeState, reporter: Reporter) -> None:
    """Publish ``state``, and log what there is to say of its inputs."""
    name = reporter.label
    statuses: list[DiagnosticStatus] = [
        diagnostics.engine_status(name, state.pipeline, *state.engine()),
        diagnostics.process_status(name),
        reporter.events.outputs(name),
    ]
    if state.health is not None and state.pipeline is not None:
        statuses += state.health.look(
            state.pipeline, state.worker.camera_latencies, receives=state.active
        )
        statuses += [diagnostics.latency_status(name, state.worker.latencies)]
    reporter.publish(*statuses)
