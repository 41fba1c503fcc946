"""Looks at an encoder node from outside: its state, `/diagnostics`, layout, and the ROS graph."""

import os
import time
from dataclasses import dataclass, field

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from vit_perception.config.parameter_files import DEFAULT_NODE
from vit_perception.files.errors import OperationFailed, UserError
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.wire.layout import Layout

ANSWER_S = 3.0  # the longest wait for the node's state and its next diagnostics
OTHERS_S = 0.5  # how long other encoders are looked for after the first one
MOST_STATUSES = 500  # everybody may publish on /diagnostics
_STEP_S = 0.05
_LIFE_CYCLE = "/transition_event"  # a topic of every lifecycle node


@dataclass(frozen=True)
class OutputTopic:
    """A topic of the node."""

    name: str  # below the node's name
    type: str
    subscribers: int


@dataclass
class Snapshot:
    """What is known of the node at one moment."""

    node: str  # full name
    processes: int  # nodes of that name
    state: str  # of its life cycle; "" where it does not answer
    diagnostics_age_s: float | None  # since its last diagnostics; None without any
    # Its statuses by the text after the node's name: "camera wrist", "engine", ...
    statuses: dict[str, DiagnosticStatus] = field(default_factory=dict)
    layout: Layout | None = None
    outputs: list[OutputTopic] = field(default_factory=list)


class StatusWatch:
    """A participant of its own that watches. Use it in a ``with`` block."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node(
            f"_vit_perception_status_{os.getpid()}",
            context=self._context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._statuses: dict[str, tuple[DiagnosticStatus, float]] = {}
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self._layout: Layout | None = None
        self._watched = ""
        self._state = None  # the client

    def __enter__(self) -> "StatusWatch":
        return self

    def __exit__(self, *raised: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def find(self, wanted: str, limit_s: float) -> str:
        """Wait until the node is there, and return its full name. ``wanted`` "" is any encoder.

        Raises:
            OperationFailed: there is none within ``limit_s``, or there are several.
        """
        wanted = wanted and f"/{wanted.strip('/')}"
        deadline_s = time.monotonic() + limit_s
        while not (found := self._encoders(wanted)):
            if time.monotonic() > deadline_s:
                raise OperationFailed(self._nobody(wanted, limit_s))
            self._executor.spin_once(timeout_sec=_STEP_S)
        if not wanted:
            self._spin(OTHERS_S)
            found |= self._encoders(wanted)
        if len(found) > 1:
            raise OperationFailed(
                f"there are several encoder nodes; accepted: one of {', '.join(sorted(found))}"
            )
        return found.pop()

    def _nobody(self, wanted: str, limit_s: float) -> str:
        domain = os.environ.get("ROS_DOMAIN_ID") or "0"
        what = f"no node {wanted}" if wanted else "no encoder node"
        others = sorted(self._encoders("")) if wanted else []
        there = (
            f"there is {', '.join(others)}"
            if others
            else ("start one (encoder_node), or set ROS_DOMAIN_ID to that of the node")
        )
        return f"{what} within {limit_s:g} s on ROS domain {domain}; {there}"

    def _encoders(self, wanted: str) -> set[str]:
        """Full names of the nodes that are meant, by their topics.

        Before configure a node has no output, but a life cycle and a publisher of diagnostics.
        """
        topics = {topic for topic, _ in self._node.get_topic_names_and_types()}
        living = {
            topic.removesuffix(_LIFE_CYCLE) for topic in topics if topic.endswith(_LIFE_CYCLE)
        }
        if wanted:
            return living & {wanted}
        diagnosed = {
            f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            for publisher in self._node.get_publishers_info_by_topic("/diagnostics")
        }
        return {
            name
            for name in living
            if name in diagnosed or f"{name}/layout" in topics or name.endswith(DEFAULT_NODE)
        }

    def look(self, node: str) -> Snapshot:
        """What ``node`` is at, waiting up to ANSWER_S for what it answers and sends."""
        self._watch(node)
        asked = time.monotonic()
        assert self._state is not None
        answer = None
        while time.monotonic() - asked < ANSWER_S:
            if answer is None and self._state.service_is_ready():
                answer = self._state.call_async(GetState.Request())
            self._executor.spin_once(timeout_sec=_STEP_S)
            if answer is not None and answer.done():
                sends = answer.result().current_state.label in ("active", "inactive")
                if not sends or (self._own() and self._layout is not None):
                    break
        own = self._own()
        state = answer.result().current_state.label if answer is not None and answer.done() else ""
        return Snapshot(
            node=node,
            processes=sum(
                f"{namespace.rstrip('/')}/{name}" == node
                for name, namespace in self._node.get_node_names_and_namespaces()
            ),
            state=state,
            diagnostics_age_s=min((age_s for _, age_s in own.values()), default=None),
            statuses={name: status for name, (status, _) in own.items()},
            layout=self._layout,
            outputs=self._outputs(node),
        )

    def _watch(self, node: str) -> None:
        if self._watched == node:
            return
        self._watched = node
        self._state = self._node.create_client(GetState, f"{node}/get_state")
        self._node.create_subscription(String, f"{node}/layout", self._on_layout, LATCHED_QOS)

    def _own(self) -> dict[str, tuple[DiagnosticStatus, float]]:
        """Statuses of the watched node, and their age in s."""
        prefix = f"{self._watched.lstrip('/')}: "
        now_s = time.monotonic()
        return {
            name.removeprefix(prefix): (status, now_s - came_s)
            for name, (status, came_s) in self._statuses.items()
            if name.startswith(prefix)
        }

    def _outputs(self, node: str) -> list[OutputTopic]:
        """What ``node`` itself publishes: a camera's topic below its name is no output."""
        namespace, _, name = node.rpartition("/")
        try:
            published = self._node.get_publisher_names_and_types_by_node(name, namespace or "/")
        # NodeNameNonExistentError, which Humble does not export: it has gone.
        except RuntimeError:
            return []
        layout = f"{node}/layout"
        return [
            OutputTopic(
                topic.removeprefix(f"{node}/"),
                types[0],
                self._node.count_subscribers(topic) - (topic == layout),  # without our own
            )
            for topic, types in sorted(published)
            if topic.startswith(f"{node}/") and not topic.endswith(_LIFE_CYCLE)
        ]

    def _spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=_STEP_S)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now_s = time.monotonic()
        for status in message.status:
            if len(self._statuses) < MOST_STATUSES or status.name in self._statuses:
                self._statuses[status.name] = (status, now_s)

    def _on_layout(self, message: String) -> None:
        try:
            self._layout = Layout.from_json(message.data)
        except UserError:
            self._layout = None  # of another version; the rest can still be shown
