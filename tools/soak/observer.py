"""What a policy and an operator would hear of the node, on a thread of its own: frames, layout,
diagnostics, memory.
"""

import contextlib
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String

from tools.soak.processes import resident_mb
from vit_perception.ros.diagnostics import parse_accounts
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.wire.layout import Layout
from vit_perception.wire.stamps import stamp_ns_of

# By how much the time jumps: ages are known whatever clock a stamp is of.
JUMP_NS = 100_000_000_000
WORKER_STAGES = ("decode", "preprocess", "infer", "pose_wait", "assemble", "publish")


def age_ns_of(stamp_ns: int, wall_ns: int) -> int:
    """How long after its image a message came, where the clock of the stamp is off by whole
    jumps.
    """
    return (wall_ns - stamp_ns + JUMP_NS // 2) % JUMP_NS - JUMP_NS // 2


@dataclass(frozen=True)
class Frame:
    """When it came, when its image was taken (both on our clock), and the sources whose tokens are
    valid.
    """

    wall_ns: int
    taken_ns: int
    valid: frozenset[str]


@dataclass
class Ages:
    """Ages of published frames in ms, each held against two engine runs, and two runs of the
    worker, plus the slop.

    A run is the p99 that the next diagnostics tell: of ``infer``, or of all that the worker does
    for a frame.
    """

    slop_ms: float
    all_ms: list[float] = field(default_factory=list)
    engine_ms: list[float] = field(default_factory=list)
    over: Counter = field(default_factory=Counter)
    worst: Counter = field(default_factory=Counter)
    too_old: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # monotonic s, age, two engine runs + slop
    _open: list[tuple[float, float]] = field(default_factory=list)

    def add(self, age_ms: float) -> None:
        self._open.append((time.monotonic(), age_ms))

    def judge(self, p99_ms: dict[str, float]) -> None:
        came, self._open = self._open, []
        if "infer" not in p99_ms:
            return
        ages_ms = [age_ms for _, age_ms in came]
        limit_ms = 2 * p99_ms["infer"] + self.slop_ms
        self.too_old += [(at_s, age_ms, limit_ms) for at_s, age_ms in came if age_ms > limit_ms]
        self.all_ms += ages_ms
        self.engine_ms.append(p99_ms["infer"])
        runs = {"engine": p99_ms["infer"], "worker": sum(p99_ms.get(s, 0.0) for s in WORKER_STAGES)}
        for kind, run_ms in runs.items():
            over_ms = [a - 2 * run_ms - self.slop_ms for a in ages_ms]
            self.over[kind] += sum(o > 0 for o in over_ms)
            self.worst[kind] = max([self.worst[kind], *over_ms])


class Books:
    """Frame accounts over all lives of the node: it begins them anew whenever it is activated."""

    def __init__(self):
        self.total: dict[str, Counter] = {}
        self.current: dict[str, Counter] = {}
        self.reports = 0
        self.wrong: list[str] = []

    def read(self, message: DiagnosticArray) -> None:
        """Take the newest accounts, and check that they add up."""
        self.current = parse_accounts(message)
        for camera, books in self.current.items():
            self.reports += 1
            dropped = sum(n for key, n in books.items() if key.startswith("dropped."))
            if books["received"] != books["published"] + dropped + books["pending"]:
                self.wrong.append(f"{camera}: {dict(books)}")

    def close(self) -> None:
        """The node stops receiving: these were the last figures."""
        self.total, self.current = self.so_far(), {}

    def so_far(self) -> dict[str, Counter]:
        """Totals by camera. What was pending at a kill -9 stays so."""
        return {
            camera: self.total.get(camera, Counter()) + self.current.get(camera, Counter())
            for camera in {**self.total, **self.current}
        }

    def dropped(self, reason: str) -> int:
        """Of all cameras, so far."""
        return sum(books[f"dropped.{reason}"] for books in self.so_far().values())


class Observer:
    """Listens to the node called ``name``. Everything here is read by the harness while the thread
    adds to it.
    """

    def __init__(self, name: str, slop_s: float):
        self.node = Node("soak_observer")
        self.books, self.ages = Books(), Ages(1e3 * slop_s)
        self.frames: list[Frame] = []
        self.layout: Layout | None = None
        self.statuses: dict[str, tuple[bytes, str, dict[str, str]]] = {}
        self.status_ns = 0
        self.memory: list[tuple[float, int, float]] = []
        self.node_pid = 0
        self._label = name
        self.node.create_subscription(
            Image, f"/{name}/tokens", self._on_tokens, QoSProfile(depth=10), raw=True
        )
        self.node.create_subscription(
            Image, f"/{name}/token_mask", self._on_mask, QoSProfile(depth=10)
        )
        self.node.create_subscription(String, f"/{name}/layout", self._on_layout, LATCHED_QOS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.node.create_timer(1.0, self._on_memory_timer)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()

    def value(self, status: str, key: str) -> str:
        """One value of /diagnostics, "" where it is not there."""
        return self.statuses.get(status, (b"", "", {}))[2].get(key, "")

    def level(self, status: str) -> int:
        """0 OK, 1 WARN, 2 ERROR; -1 where nothing was said."""
        level = self.statuses.get(status, (b"",))[0]
        return level[0] if level else -1

    def p99_ms(self) -> dict[str, float]:
        """By stage, as the newest diagnostics have it."""
        return {
            key.removeprefix("latency_ms."): float(value.split(" / ")[1])
            for key, value in self.statuses.get("latency", (b"", "", {}))[2].items()
            if key.startswith("latency_ms.")
        }

    # -- on the thread -----------------------------------------------------------------------------

    def _on_tokens(self, data: bytes) -> None:
        wall_ns = time.time_ns()
        # The header's stamp, behind the four bytes that every CDR message begins with.
        seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
        self.ages.add(age_ns_of(seconds * 1_000_000_000 + nanoseconds, wall_ns) / 1e6)

    def _on_mask(self, message: Image) -> None:
        wall_ns = time.time_ns()
        if self.layout is None or self.layout.token_count != message.width:
            return
        mask = np.frombuffer(message.data, np.uint8)
        rows: dict[str, bool] = {}
        for group in (each for each in self.layout.groups if not each.step):
            rows[group.source] = rows.get(group.source, True) and bool(
                mask[group.start : group.stop].all()
            )
        self.frames.append(
            Frame(
                wall_ns,
                wall_ns - age_ns_of(stamp_ns_of(message.header), wall_ns),
                frozenset(source for source, valid in rows.items() if valid),
            )
        )

    def _on_layout(self, message: String) -> None:
        self.layout = Layout.from_json(message.data)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = f"{self._label}: "
        statuses = {
            s.name.removeprefix(prefix): (s.level, s.message, {v.key: v.value for v in s.values})
            for s in message.status
            if s.name.startswith(prefix)
        }
        if not statuses:
            return
        if any(name.startswith("camera ") for name in statuses):
            self.books.read(message)
        self.statuses, self.status_ns = statuses, time.time_ns()
        self.ages.judge(self.p99_ms())

    def _on_memory_timer(self) -> None:
        if self.node_pid and (used_mb := resident_mb(self.node_pid)):
            self.memory.append((time.monotonic(), self.node_pid, used_mb))
