"""The lifecycle node: configure loads and verifies, activate subscribes, cleanup frees.

The executor's thread receives (:mod:`vit_perception.ros.inputs`) and never waits for inference. The
worker's opens and runs the engine (:mod:`vit_perception.pipeline.worker`), with one before it that
prepares images and one after it that publishes (:mod:`vit_perception.pipeline.frames`). One
condition guards what they share: the images that wait, the pose histories, and the books. A last
thread makes pictures while somebody looks.
"""

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from vit_perception.config.settings import EncoderSettings
from vit_perception.files.errors import OperationFailed, told, traced
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.worker import ENDING_S, EncoderWorker, WorkerStuck
from vit_perception.ros.gpu_loss import GpuLoss
from vit_perception.ros.health.first_words import FirstWords
from vit_perception.ros.health.health import Health
from vit_perception.ros.health.report import NodeState, report
from vit_perception.ros.inputs import Inputs
from vit_perception.ros.lifecycle_node import ReleasedLifecycleNode
from vit_perception.ros.outputs import Outputs
from vit_perception.ros.parameters import NodeParameters
from vit_perception.ros.qos import warn_of_unused_overrides
from vit_perception.ros.reporter import ConfigureLog, Reporter
from vit_perception.ros.tf_poses import tf2_module
from vit_perception.ros.video.installed import check_video_messages
from vit_perception.streams.camera_sync import DEACTIVATED, GPU_LOST, CameraSync, sync_of
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.source import sampled

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class EncoderNode(ReleasedLifecycleNode):
    """Images and poses in; tokens, embeddings and classifications out. Wiring only."""

    def __init__(self, parameter_files: Sequence[Path] = (), **node_arguments):
        """``parameter_files`` are those that ROS was given, for what is said of them."""
        super().__init__("vit_encoder", **node_arguments)
        self._changed = threading.Condition()
        self._worker = EncoderWorker(
            self._changed,
            lambda result: self._outputs.publish(result),
            self._warn_image,
            self._on_worker_failed,
            wanted=self.context.ok,
        )
        self._pipeline: Pipeline | None = None
        self._outputs: Outputs | None = None
        self._sync: CameraSync | None = None
        self._samples: SampleInputs | None = None
        self._inputs: Inputs | None = None
        self._health: Health | None = None
        self._timer = None
        self._failure = ""
        self._reporter = Reporter(self)
        self._gpu = GpuLoss(
            self, self._reporter, self._changed, lambda: self._stop_receiving("the end", ENDING_S)
        )
        self._failed = self.create_guard_condition(self._deactivate_after_failure)
        self._settings_source = NodeParameters(self)
        self.add_on_set_parameters_callback(
            lambda parameters: self._settings_source.answer(
                parameters, self._pipeline, self._change
            )
        )
        self._first_words = FirstWords(self, parameter_files)
        if self._settings_source.value("autostart"):
            self._autostart = self.create_timer(0.0, self._start_once, clock=STEADY)
        else:
            self._first_words.waiting("unconfigured")

    # -- lifecycle ---------------------------------------------------------------------------------

    def _start_once(self) -> None:
        self.destroy_timer(self._autostart)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read parameters, load the checkpoint, open an engine that passes the gate. FAILURE leaves
        nothing open.

        Refused while the worker is stuck in what it did before.
        """
        if not self._free("configure", limit_s=0.0):
            return TransitionCallbackReturn.FAILURE
        try:
            settings = self._settings_source.read()
            self._settings_source.warn_of_unknown()
            check_video_messages(settings.cameras)
            if through_tf := [arm for arm in settings.poses if arm.source == "tf"]:
                tf2_module(through_tf)
            self._pipeline = self._open(settings)
            self._outputs = Outputs(self, self._pipeline, self._warn_image, self._reporter.events)
        except Exception as error:
            self._gpu.failed("configure", error, self._sync)
            self._free("configure")
            self._first_words.failed("configure")
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"configured: {self._pipeline.what_runs()}")
        # Not the ROS clock: with use_sim_time and no /clock it stands still, and the books with it.
        self._timer = self.create_timer(1.0, self._report, clock=STEADY)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start to encode. The books start anew, and so does an engine that failed.

        Refused while the worker is stuck in what it did before.
        """
        try:
            self._worker.check_idle()
            if self._pipeline is None:
                why = "the engine is closed, and the cleanup did not end"
                raise OperationFailed(f"{why}; accepted: cleanup, configure")
        except OperationFailed as error:
            self._reporter.failed("activate", error)
            return TransitionCallbackReturn.FAILURE
        try:
            if self._failure:
                self._reopen()
            settings = self._pipeline.settings
            started_ns = time.monotonic_ns()
            self._sync = CameraSync(
                [c.name for c in settings.cameras], *sync_of(settings), started_ns
            )
            self._samples = SampleInputs(sampled(self._pipeline.sources), self._changed)
            self._health = Health(
                self,
                self._reporter,
                changed=self._changed,
                sync=self._sync,
                samples=self._samples,
                started_ns=started_ns,
            )
            self._inputs = Inputs(self, self._changed, self._sync, self._samples, self._reporter)
            self._inputs.subscribe(self._pipeline.sources)
        except Exception as error:
            self._gpu.failed("activate", error, self._sync)
            self._stop_receiving("activate")
            self._first_words.failed("activate")
            return TransitionCallbackReturn.FAILURE
        self._health.extras = self._inputs.extras
        self._worker.start(self._pipeline, self._sync, self._samples, self._inputs.extras.at)
        self.get_logger().info(f"active, listening to {', '.join(self._inputs.topics)}")
        warn_of_unused_overrides(self)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop encoding and unsubscribe; what still waits is dropped and counted.

        FAILURE where the worker does not come back in time: deactivate again later.
        """
        return self._done(self._stop_receiving("deactivate"))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free engine and topics. FAILURE where the worker does not come back in time."""
        return self._done(self._free("cleanup"))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state: stop and free."""
        return self._done(self._free("shutdown"))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: free everything, so that the node can be configured again."""
        return self._done(self._free("the end of an error"))

    @staticmethod
    def _done(ended: bool) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS if ended else TransitionCallbackReturn.FAILURE

    @property
    def doing(self) -> str:
        """What the worker is at, for the last words of a process that ends without it."""
        return self._worker.doing

    @property
    def exit_status(self) -> int:
        """0, or what the process has to end with because it can use the GPU no more."""
        return self._gpu.exit_status

    def close(self) -> bool:
        """Stop, free, and end the worker's thread: once, before the node is destroyed.

        False where the worker does not come back: an engine hangs or is still being built.
        """
        if self._worker.opening or not self._free("the end"):
            return False
        self._worker.shutdown()
        return True

    def _open(self, settings: EncoderSettings) -> Pipeline:
        self._gpu.check()
        log = ConfigureLog(self._reporter, at=lambda text: self._worker.at(f"open ({text})"))
        with Heartbeat(log) as alive:
            return self._worker.open(lambda: Pipeline.open(settings, alive))

    def _stop_receiving(self, transition: str, limit_s: float | None = None) -> bool:
        """False, and said, where the worker does not come back; it may be tried again."""
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        try:
            self._worker.stop(limit_s)
        except WorkerStuck as error:
            self._reporter.failed(transition, error)
            return False
        if self._outputs is not None:
            self._outputs.pause()
        if self._sync is not None:
            with self._changed:
                self._sync.clear(GPU_LOST if self.exit_status else DEACTIVATED)
            self._report()
        return True

    def _free(self, transition: str, limit_s: float | None = None) -> bool:
        """Undo configure and activate, however far they came. False as _stop_receiving's."""
        if not self._stop_receiving(transition, limit_s):
            return False
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._outputs is not None:
            self._outputs.destroy()
        pipeline, self._pipeline = self._pipeline, None
        self._outputs = self._timer = self._sync = self._samples = self._health = None
        self._failure = ""
        try:
            self._close_engine(pipeline)
        except WorkerStuck as error:
            self._reporter.failed(transition, error)
            return False
        return True

    def _close_engine(self, pipeline: Pipeline | None) -> None:
        """Raises WorkerStuck alone."""
        try:
            self._worker.close(pipeline)
        except WorkerStuck:
            raise
        except Exception as error:
            if not self._gpu.is_lost_by(error, self._sync):
                self.get_logger().warning(f"closing the engine failed: {told(error)}")

    # -- an engine that fails while it runs --------------------------------------------------------

    def _on_worker_failed(self, error: Exception) -> None:
        """On the worker's thread: have the executor deactivate the node, or end it."""
        if self._gpu.is_lost_by(error, self._sync):
            return
        self.get_logger().error(
            f"the engine failed, the node goes to inactive; activate it to open the engine anew: "
            f"{traced(error)}"
        )
        self._failure = str(error)
        self._failed.trigger()

    def _deactivate_after_failure(self) -> None:
        # Somebody may have deactivated it, or cleaned it up, in the meantime.
        if self._failure and self._inputs is not None:
            self.trigger_deactivate()

    def _reopen(self) -> None:
        """Replace the pipeline whose engine failed, with the settings as they are now."""
        old = self._pipeline
        self.get_logger().info(f"opening the engine anew, after: {self._failure}")
        self._close_engine(old)
        self._pipeline = self._open(old.settings)
        self._outputs.refresh(self._pipeline)
        self._failure = ""
        for now, before in zip(self._pipeline.every_opened, old.every_opened, strict=True):
            if str(now.engine) != str(before.engine):
                self.get_logger().warning(
                    f"the engine is now {now.engine}; before its failure: {before.engine}"
                )

    # -- sending and saying ------------------------------------------------------------------------

    def _warn_image(self, cameras: Collection[str], text: str) -> None:
        topics = [c.topic for c in self._pipeline.settings.cameras if c.name in cameras]
        self._reporter.warn(", ".join(topics), text)

    def _report(self) -> None:
        state = NodeState(
            pipeline=self._pipeline,
            worker=self._worker,
            health=self._health,
            active=bool(self._inputs),
            failure=self._failure,
            gpu_lost=self._gpu.message,
        )
        report(state, self._reporter)

    # -- parameters --------------------------------------------------------------------------------

    def _change(self, settings: EncoderSettings) -> None:
        self._worker.change(lambda: self._apply(settings))

    def _apply(self, settings: EncoderSettings) -> None:
        """Between two frames: the next one is made by ``settings`` in everything."""
        self._pipeline.apply(settings)
        self._outputs.refresh(self._pipeline)
        with self._changed:
            if self._sync is not None:
                self._sync.configure(*sync_of(settings))
                self._samples.configure(sampled(self._pipeline.sources))
