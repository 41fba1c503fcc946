"""What the log says of the inputs: warnings with cause and cure, and that one is back."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import KeyValue
from rclpy.node import Node

from vit_perception.files.errors import printable
from vit_perception.ros import diagnostics
from vit_perception.ros.events.qos_events import QosEvents
from vit_perception.ros.health import situations
from vit_perception.ros.health.judge import Finding
from vit_perception.ros.health.situations import duration
from vit_perception.ros.publishers import ASKED, why_nothing_comes
from vit_perception.tokens.source import TokenSource

# In these nothing usable comes.
_QUIET = (
    situations.NEVER_CAME,
    situations.NEVER_SENT,
    situations.STOPPED,
    situations.GONE,
    situations.NOT_ALIVE,
    situations.NO_TRANSFORM,
    situations.OTHER_TYPE,
    situations.OTHER_QOS,
    situations.REFUSED,
    situations.REFUSED_SAMPLES,
)


class InputWatch:
    """Tells the log, and completes the status, of each input. One from activate to deactivate.

    ``warn`` takes a topic and a text, throttles, and returns whether it was said. Call it on the
    executor's thread.
    """

    def __init__(
        self, node: Node, warn: Callable[[str, str], bool], events: QosEvents, started_ns: int
    ):
        self._node = node
        self._warn = warn
        self._events = events
        self._started_ns = started_ns  # monotonic
        # By source: when its last usable message came before it was found quiet (monotonic, ns).
        # Only silence that was said is followed by a return: a slow camera is quiet each second.
        self._quiet_since_ns: dict[str, int] = {}

    def tell(
        self, sources: Sequence[TokenSource], reports: Sequence[diagnostics.SourceReport]
    ) -> None:
        """Look at each source; ``reports`` are in the order of ``sources``.

        Where nothing comes, log and status also get what the ROS graph says of the topic.
        """
        for source, report in zip(sources, reports):
            topic = source.topic or (
                f"TF from {source.settings.base_frame} to {source.settings.ee_frame}"
            )
            finding = report.finding
            if source.topic is not None and finding.situation in ASKED:
                finding = why_nothing_comes(self._node, source, finding)
            finding = self._events.narrow(source, finding)
            if finding.situation.warns and report.status.level == diagnostics.OK:
                report.status.level = diagnostics.WARN
            report.status.message = printable(finding.text)
            report.status.values += [
                KeyValue(key="situation", value=finding.situation.name),
                KeyValue(key="topic", value=printable(topic)),
                *self._events.values(source),
            ]
            said = finding.situation.warns and self._warn(topic, finding.text)
            self._events.tell_refused(source, finding)
            newest_ns = report.arrivals_ns[-1] if report.arrivals_ns else self._started_ns
            if finding.situation in _QUIET and said:
                self._quiet_since_ns[source.name] = newest_ns
            elif newest_ns > self._quiet_since_ns.get(source.name, newest_ns):
                self._tell_return(source.name, topic, finding, list(report.arrivals_ns))

    def _tell_return(self, name: str, topic: str, finding: Finding, arrivals_ns: list[int]) -> None:
        since_ns = self._quiet_since_ns.pop(name)
        first_ns = arrivals_ns[min(bisect_right(arrivals_ns, since_ns), len(arrivals_ns) - 1)]
        came = situations.CAME_BACK if since_ns != self._started_ns else situations.FIRST_CAME
        found = finding.found | {"age": duration((first_ns - since_ns) / 1e9)}
        self._node.get_logger().info(printable(f"{topic}: {came.says.format(**found)}"))
