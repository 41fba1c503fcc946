"""The lifecycle node: configure loads and verifies, activate subscribes, cleanup frees. Wiring only.

Two threads: the executor's receives and never waits for inference; the worker's opens and runs the engine
(:mod:`vit_perception.ros.worker`). One condition guards what they share: the images that wait, the pose
histories, and the books.
"""

import signal
import threading
import time
import traceback

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import uninstall_signal_handlers
from rcl_interfaces.msg import SetParametersResult
from sensor_msgs.msg import CompressedImage, Image

from vit_perception.image.decode import stamp_ns_of
from vit_perception.pipeline import Pipeline
from vit_perception.ros import diagnostics
from vit_perception.ros.camera_sync import CameraSync
from vit_perception.ros.outputs import Outputs
from vit_perception.ros.parameters import NodeParameters
from vit_perception.ros.pose_inputs import PoseInputs
from vit_perception.ros.worker import EncoderWorker
from vit_perception.settings import CameraSettings, EncoderSettings, PoseSettings
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, FrameResult

# Best effort matches every publisher. Deep enough for a scheduling hiccup: a frame lost here is lost uncounted.
IMAGE_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
POSE_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
WARN_PERIOD_S = 5.0
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class EncoderNode(LifecycleNode):
    """Images and poses in; tokens, embeddings and classifications out. Topics: README, wire format: docs."""

    def __init__(self, **node_arguments):
        super().__init__("vit_encoder", **node_arguments)
        self._changed = threading.Condition()
        self._worker = EncoderWorker(self._changed, self._publish, self._warn_image)
        self._pipeline: Pipeline | None = None
        self._outputs: Outputs | None = None
        self._sync: CameraSync | None = None
        self._poses: PoseInputs | None = None
        self._inputs: list = []
        self._timer = None
        self._warned_s: dict[str, float] = {}
        self._label = self.get_fully_qualified_name().lstrip("/")  # two robots share one /diagnostics
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._settings_source = NodeParameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        if self._settings_source.value("autostart"):
            self._autostart = self.create_timer(0.0, self._start_once, clock=STEADY)

    # -- lifecycle -------------------------------------------------------------------------------------------

    def _start_once(self) -> None:
        self.destroy_timer(self._autostart)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read parameters, load the checkpoint, open an engine that passes the gate. FAILURE leaves nothing open."""
        try:
            settings = self._settings_source.read()
            for name in self._settings_source.unknown():
                self.get_logger().warning(f"parameter '{name}' is not one of this node's and does nothing")
            self._pipeline = self._worker.open(lambda: Pipeline.open(settings, self._progress))
            self._outputs = Outputs(self, self._pipeline)
        except Exception as error:
            # rclpy would swallow it. What the user can mend is said in one line, anything else with its traceback.
            expected = isinstance(error, (ValueError, RuntimeError, OSError))
            self.get_logger().error(f"configure failed: {error if expected else traceback.format_exc()}")
            self._report(diagnostics.engine_status(self._label, None, f"configure failed: {error}",
                                                   diagnostics.ERROR))
            self._free()
            return TransitionCallbackReturn.FAILURE
        engine = self._pipeline.engine
        self.get_logger().info(f"configured: {self._pipeline.card.name} on {engine.runtime} in {engine.precision}, "
                               f"{self._pipeline.opened.report}")
        # Not the ROS clock: with use_sim_time and no /clock it stands still, and the books with it.
        self._timer = self.create_timer(1.0, self._on_diagnostics_timer, clock=STEADY)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start to encode. The books start anew."""
        settings = self._pipeline.settings
        sync = settings.sync
        self._sync = CameraSync([c.name for c in settings.cameras], round(sync.slop_s * NANOSECONDS_PER_SECOND),
                                sync.policy, round(sync.silent_after_s * NANOSECONDS_PER_SECOND), time.monotonic_ns())
        self._poses = PoseInputs(settings.poses, self._changed)
        try:
            self._subscribe(settings)
        except Exception:
            self.get_logger().error(f"activate failed: {traceback.format_exc()}")
            self._stop_receiving()
            return TransitionCallbackReturn.FAILURE
        self._worker.start(self._pipeline, self._sync, self._poses)
        self.get_logger().info(f"active, listening to {', '.join(s.topic_name for s in self._inputs)}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop encoding and unsubscribe; what still waits is dropped and counted."""
        self._stop_receiving()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and take the topics down."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state: stop and free."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: free everything, so that the node can be configured again."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop, free, and end the worker's thread: once, before the node is destroyed."""
        self._free()
        self._worker.shutdown()

    def _stop_receiving(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._worker.stop()
        if self._sync is not None:
            with self._changed:
                self._sync.clear("deactivated")
            self._on_diagnostics_timer()

    def _free(self) -> None:
        """Undo configure and activate, however far they came."""
        self._stop_receiving()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._outputs is not None:
            self._outputs.destroy()
        pipeline, self._pipeline = self._pipeline, None
        self._worker.close(pipeline)
        self._outputs = self._timer = self._sync = self._poses = None

    # -- receiving -------------------------------------------------------------------------------------------

    def _subscribe(self, settings: EncoderSettings) -> None:
        override = QoSOverridingOptions.with_default_policies()
        for camera in settings.cameras:
            kind = CompressedImage if camera.transport == "compressed" else Image
            self._inputs.append(self.create_subscription(kind, camera.topic, lambda m, c=camera: self._on_image(c, m),
                                                         IMAGE_QOS, qos_overriding_options=override))
        for arm in settings.poses:
            self._inputs.append(self.create_subscription(PoseStamped, arm.topic, lambda m, a=arm: self._on_pose(a, m),
                                                         POSE_QOS, qos_overriding_options=override))

    def _on_image(self, camera: CameraSettings, message) -> None:
        with self._changed:
            try:
                stamp_ns = stamp_ns_of(message.header)
                if self._sync.add(camera.name, stamp_ns, message, time.monotonic_ns()):
                    self._poses.forget_after(stamp_ns)
                self._changed.notify_all()
                return
            except BadInput as error:
                self._sync.refuse(camera.name, error.reason)
                text = str(error)
        self._warn_image(camera.name, text)

    def _on_pose(self, arm: PoseSettings, message: PoseStamped) -> None:
        try:
            self._poses.add(arm, message)
        except BadInput as error:
            self._warn(f"{arm.topic}: {error}", about=arm.topic)

    def _warn_image(self, cameras: str, text: str) -> None:
        topics = [c.topic for c in self._pipeline.settings.cameras if c.name in cameras.split(", ")]
        self._warn(f"{', '.join(topics)}: {text}", about=cameras)

    def _warn(self, text: str, about: str) -> None:
        """Once in a while for each topic: a broken camera sends thirty bad frames a second."""
        now_s = time.monotonic()
        if self.context.ok() and now_s - self._warned_s.get(about, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned_s[about] = now_s
            self.get_logger().warning(text)

    # -- sending ---------------------------------------------------------------------------------------------

    def _publish(self, result: FrameResult) -> None:
        self._outputs.publish(result)

    def _progress(self, text: str) -> None:
        """Called by the worker while configure blocks the executor: minutes of silence look like a hang.

        Raises RuntimeError when the node is being shut down, which ends a long configure between its steps.
        """
        if not self.context.ok():
            raise RuntimeError("the node was shut down while it was being configured")
        self.get_logger().info(text)
        self._report(diagnostics.engine_status(self._label, None, text, diagnostics.WARN))

    def _report(self, *statuses) -> None:
        if not self.context.ok():
            return  # Ctrl-C has taken DDS down before the node could say goodbye
        message = diagnostics.array_of(self.get_clock().now().to_msg(), list(statuses))
        try:
            self._diagnostics.publish(message)
        except Exception:
            # Ctrl-C may fall between the look and the call.
            if self.context.ok():
                raise

    def _on_diagnostics_timer(self) -> None:
        name = self._label
        statuses = [diagnostics.engine_status(name, self._pipeline, "running" if self._inputs else "ready")]
        if self._sync is not None:
            with self._changed:
                statuses += diagnostics.camera_statuses(name, self._sync, time.monotonic_ns())
                statuses += diagnostics.pose_statuses(name, self._poses)
                silent = [c.topic for c in self._pipeline.settings.cameras
                          if self._sync.is_silent(c.name, time.monotonic_ns())]
            for topic in silent if self._inputs else ():
                self._warn(f"{topic}: no image lately; is the name right, does it publish?", about=f"silent {topic}")
            latencies = self._worker.latencies
            statuses.append(diagnostics.status(f"{name}: latency", diagnostics.OK, "p50 / p99 in ms",
                                               {"rate_hz": f"{latencies.rate_hz():.2f}", **latencies.summary()}))
        self._report(*statuses)

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """A change that would silently do nothing is refused: parameters are read at configure."""
        own = [p.name for p in parameters if not p.name.startswith(("qos_overrides.", "use_sim_time"))]
        if own and self._pipeline is not None:
            return SetParametersResult(successful=False, reason=f"'{own[0]}' is read at configure; deactivate and "
                                       "clean up the node (ros2 lifecycle set), set it, and configure again")
        for name in own:
            self._settings_source.was_set(name)
        return SetParametersResult(successful=True)


def main(args: list[str] | None = None) -> int:
    """The executable ``encoder_node``. One Ctrl-C or SIGTERM ends it with exit status 0."""
    rclpy.init(args=args)
    node = None
    try:
        node = EncoderNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal while the node is being made takes DDS away from under it.
        if rclpy.ok():
            raise
    finally:
        # Under launch, Ctrl-C reaches the process twice; the second must not cut the teardown short.
        uninstall_signal_handlers()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
