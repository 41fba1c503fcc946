"""What the node says of itself: throttled warnings, progress while it configures, and
``/diagnostics``.
"""

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode

from vit_perception.files.errors import OperationFailed, printable, told
from vit_perception.ros import diagnostics
from vit_perception.ros.events.qos_events import QosEvents

WARN_PERIOD_S = 5.0
SENT_S = 1.0  # the longest wait for those who listen
MOST_WARNED = 1000  # names of cameras come from parameters; no flood of them may fill the memory


class ConfigureLog:
    """The log of a configure: ``at`` takes each sentence, then ``reporter`` shows it."""

    def __init__(self, reporter: "Reporter", at: Callable[[str], None]):
        self._reporter = reporter
        self._at = at

    def info(self, text: str) -> None:
        self._at(text)
        self._reporter.configuring(text)

    def warning(self, text: str) -> None:
        self._at(text)
        self._reporter.configuring(text, warn=True)

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        if text:
            self.info(text)


class Reporter:
    """The log and the diagnostics of ``node``. Any thread may call it."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        self.label = node.get_fully_qualified_name().lstrip(
            "/"
        )  # two robots share one /diagnostics
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._warned_s: dict[str, float] = {}
        self.events = QosEvents(node, self.warn)

    def warn(self, topic: str, text: str, about: str = "message") -> bool:
        """Once in a while for each topic and ``about``: a broken camera sends thirty bad frames a
        second. Return whether it was said.
        """
        now_s, key = time.monotonic(), f"{about} {topic}"
        if (
            self._node.context.ok()
            and now_s - self._warned_s.get(key, -WARN_PERIOD_S) >= WARN_PERIOD_S
        ):
            if len(self._warned_s) >= MOST_WARNED:
                self._warned_s.clear()
            self._warned_s[key] = now_s
            self._node.get_logger().warning(printable(f"{topic}: {text}"))
            return True
        return False

    def failed(self, transition: str, error: Exception) -> None:
        """rclpy would swallow it. What the user can mend is said in one line, anything else with
        its traceback.
        """
        self._node.get_logger().error(f"{transition} failed: {told(error)}")
        self.publish(
            diagnostics.engine_status(
                self.label, None, f"{transition} failed: {error}", diagnostics.ERROR
            )
        )

    def configuring(self, text: str, warn: bool = False) -> None:
        """Log and publish what configure does: minutes of silence look like a hang.

        Called by the worker, while configure blocks the executor.

        Raises:
            OperationFailed: The node is being shut down. This ends a long configure.
        """
        if not self._node.context.ok():
            raise OperationFailed("the node was shut down while it was being configured")
        logger = self._node.get_logger()
        # rclpy refuses another level from the same place in the code.
        if warn:
            logger.warning(text)
        else:
            logger.info(text)
        self.publish(diagnostics.engine_status(self.label, None, text, diagnostics.WARN))

    def publish(self, *statuses: DiagnosticStatus) -> None:
        """Send ``/diagnostics``, stamped with the node's clock."""
        if not self._node.context.ok():
            return  # Ctrl-C has taken DDS down before the node could say goodbye
        message = diagnostics.array_of(self._node.get_clock().now().to_msg(), list(statuses))
        try:
            self._publisher.publish(message)
        except Exception:
            # Ctrl-C may fall between the look and the call.
            if self._node.context.ok():
                raise

    def wait_until_sent(self) -> None:
        """Wait until those who listen have the diagnostics, SENT_S at most."""
        self._publisher.wait_for_all_acked(Duration(seconds=SENT_S))
