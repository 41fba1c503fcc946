"""A subscriber of everything that the encoder node publishes: what the demo and the benchmark look
through.

It also shows what a policy node does: wait for the layout, decode ``~/tokens``, split it by group.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from vision_msgs.msg import Classification

from vit_perception.ros.messages import class_of
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.wire.basis import Basis, decode_tokens
from vit_perception.wire.layout import Layout, LayoutSource
from vit_perception.wire.stamps import stamp_ns_of
from vit_perception.wire.tensors import decode_tensor

MOST_FRAMES = 20_000  # eleven minutes at 30 Hz; what came first is forgotten
OUTPUT_QOS = QoSProfile(depth=20)


@dataclass(eq=False)
class WatchedFrame:
    """What has come with one stamp."""

    received_ns: int = 0  # when ~/tokens came, wall clock
    tokens: np.ndarray | None = None  # (N, D)
    # By camera, the score of each class, best first.
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    attention: dict[str, np.ndarray] = field(default_factory=dict)  # by camera, (H, W, 3)
    # The messages of all other sources, by the group's and the source's name.
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Tokens that have a topic of their own, by kind, (T, W).
    apart: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def poses(self) -> dict[str, PoseStamped]:
        """Those of the arms."""
        return self.samples.get("poses", {})

    @property
    def states(self) -> dict[str, JointState]:
        """Those of the joint states."""
        return self.samples.get("states", {})


class OutputWatcher(Node):
    """Collects the outputs of the node called ``encoder``, by image stamp in ns, in ``frames``.

    ``record`` is given (topic, type name, CDR bytes, wall-clock ns) of each message but the views.
    """

    def __init__(
        self,
        encoder: str,
        record: Callable[[str, str, bytes, int], None] | None = None,
        views: bool = True,
        keep_tokens: bool = True,
    ):
        super().__init__("output_watcher")
        self._encoder = encoder
        self._record = record or (lambda topic, type_name, data, wall_ns: None)
        self._views, self._keep_tokens = views, keep_tokens
        self._basis: Basis | None = None
        self.layout: Layout | None = None
        self.diagnostics: DiagnosticArray | None = None
        self.frames: dict[int, WatchedFrame] = {}
        self._subscribe(String, "layout", self._on_layout, LATCHED_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _subscribe(
        self,
        kind: type,
        topic: str,
        take: Callable,
        qos: QoSProfile = OUTPUT_QOS,
        recorded: bool = True,
    ) -> None:
        """Raw, so that the bytes recorded are the bytes sent; deserialised once."""
        full = f"{self._encoder}/{topic}"
        module = kind.__module__.split(".")[0]

        def on_bytes(data: bytes) -> None:
            wall_ns = time.time_ns()
            if recorded:
                self._record(full, f"{module}/msg/{kind.__name__}", data, wall_ns)
            take(deserialize_message(data, kind), wall_ns)

        self.create_subscription(kind, full, on_bytes, qos, raw=True)

    def _frame(self, message) -> WatchedFrame:
        frame = self.frames.setdefault(stamp_ns_of(message.header), WatchedFrame())
        while len(self.frames) > MOST_FRAMES:
            del self.frames[next(iter(self.frames))]
        return frame

    def _on_layout(self, message: String, wall_ns: int) -> None:
        first = self.layout is None
        self.layout = Layout.from_json(message.data)
        if first:
            self._subscribe_outputs(self.layout)

    def _subscribe_outputs(self, layout: Layout) -> None:
        for camera in layout.cameras:
            if camera.labels:
                self._subscribe(
                    Classification,
                    f"{camera.name}/classification",
                    lambda m, t, name=camera.name: self._on_classification(name, m),
                )
            if self._views:
                self._subscribe(
                    Image,
                    f"{camera.name}/attention_view",
                    recorded=False,
                    take=lambda m, t, name=camera.name: self._on_attention(name, m),
                )
        for source in layout.samples:
            self._subscribe(
                class_of(source.type),
                source.topic,
                lambda m, t, source=source: self._on_sample(source, m),
            )
        for apart in layout.apart:
            self._subscribe(
                Image, apart.topic, lambda m, t, kind=apart.kind: self._on_apart(kind, m)
            )
        if layout.basis:
            # Tokens that come before the basis could not be restored.
            self._subscribe(Image, "basis", self._on_basis, qos=LATCHED_QOS)
        else:
            self._subscribe(Image, "tokens", self._on_tokens)

    def _on_basis(self, message: Image, wall_ns: int) -> None:
        first = self._basis is None
        self._basis = Basis.from_message(message, self.layout)
        if first:
            self._subscribe(Image, "tokens", self._on_tokens)

    def _on_classification(self, camera: str, message: Classification) -> None:
        self._frame(message).classes[camera] = {r.class_id: r.score for r in message.results}

    def _on_sample(self, source: LayoutSource, message: Any) -> None:
        self._frame(message).samples.setdefault(source.group, {})[source.name] = message

    def _on_attention(self, camera: str, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        self._frame(message).attention[camera] = pixels

    def _on_tokens(self, message: Image, wall_ns: int) -> None:
        frame = self._frame(message)
        frame.received_ns = wall_ns
        if self._keep_tokens:
            frame.tokens = self._decoded(message)

    def _decoded(self, message: Image) -> np.ndarray:
        if self.layout is None:  # nothing says that it is anything else than a tensor
            return decode_tensor(message)
        return decode_tokens(message, self.layout, self._basis)

    def _on_apart(self, kind: str, message: Image) -> None:
        self._frame(message).apart[kind] = decode_tensor(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(s.name.startswith(f"{self._encoder.strip('/')}: ") for s in message.status):
            self.diagnostics = message
