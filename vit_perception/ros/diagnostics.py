"""``/diagnostics``: rates, stage latencies, frame and pose accounts, and what engine really runs."""

import threading
import time
from collections import Counter, deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vit_perception.pipeline import Pipeline
from vit_perception.ros.camera_sync import CameraSync
from vit_perception.ros.pose_inputs import PoseInputs

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class StageLatencies:
    """The last few hundred values of each stage in ms, and the times of publication for the rate.

    The worker adds, the executor's thread reads.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._stages: dict[str, deque[float]] = {}
        self._published_s: deque[float] = deque(maxlen=100)

    def add(self, stage_ms: dict[str, float]) -> None:
        """Note one published frame."""
        with self._lock:
            self._published_s.append(time.monotonic())
            for stage, value in stage_ms.items():
                self._stages.setdefault(stage, deque(maxlen=300)).append(value)

    def rate_hz(self) -> float:
        """Publications a second over the last 5 s."""
        now_s = time.monotonic()
        with self._lock:
            return sum(1 for t in self._published_s if now_s - t <= 5.0) / 5.0

    def summary(self) -> dict[str, str]:
        """``latency_ms.<stage>`` as "p50 / p99"."""
        with self._lock:
            stages = {stage: list(values) for stage, values in self._stages.items()}
        return {f"latency_ms.{stage}": "{:.2f} / {:.2f}".format(*np.percentile(values, (50, 99)))
                for stage, values in stages.items()}


def status(name: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    """One DiagnosticStatus with its values as text."""
    return DiagnosticStatus(name=name, level=level, message=message,
                            values=[KeyValue(key=str(k), value=str(v)) for k, v in values.items()])


def engine_status(node_name: str, pipeline: Pipeline | None, message: str, level: bytes = OK) -> DiagnosticStatus:
    """What runs: runtime, precision, device, the parity figures, and why earlier backends were not taken."""
    values: dict[str, object] = {}
    if pipeline is not None:
        engine, report = pipeline.engine, pipeline.opened.report
        values = {"runtime": engine.runtime, "precision": engine.precision, "device": engine.device,
                  "model": pipeline.card.name, "weights_sha256": pipeline.card.weights_sha256,
                  "min_cosine": f"{report.min_cosine:.6f}", "parity": str(report)}
        values |= {f"not_taken.{backend}": why for backend, why in pipeline.opened.tried}
    return status(f"{node_name}: engine", level, message, values)


def camera_statuses(node_name: str, sync: CameraSync, now_ns: int) -> list[DiagnosticStatus]:
    """The books of every camera: ``received = published + dropped.* + pending``. Call with the lock held."""
    statuses = []
    for camera, account in sync.accounts.items():
        values: dict[str, object] = {"received": account.received, "published": account.published,
                                     "pending": sync.pending(camera)}
        values |= {f"dropped.{reason}": n for reason, n in sorted(account.dropped.items())}
        silent = sync.is_silent(camera, now_ns)
        statuses.append(status(f"{node_name}: camera {camera}", ERROR if silent else OK,
                               "no image lately" if silent else "receiving", values))
    return statuses


def pose_statuses(node_name: str, poses: PoseInputs) -> list[DiagnosticStatus]:
    """The books of every arm: samples refused, how poses were had, and their skew. Call with the lock held."""
    statuses = []
    for arm, account in poses.accounts.items():
        values: dict[str, object] = {"received": account.received}
        values |= {f"refused.{reason}": n for reason, n in sorted(account.refused.items())}
        values |= {key: account.statuses[key] for key in ("interpolated", "held", "missing")}
        if account.skew_ms:
            values["skew_ms"] = "{:.2f} / {:.2f}".format(np.median(account.skew_ms), max(account.skew_ms))
        trouble = ("no pose has come" if not account.received else
                   "no pose near the latest image" if account.latest == "missing" else "")
        statuses.append(status(f"{node_name}: arm {arm}", WARN if trouble else OK, trouble or "receiving", values))
    return statuses


def array_of(stamp, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    """The message, stamped with the node's clock."""
    message = DiagnosticArray(status=statuses)
    message.header.stamp = stamp
    return message


def parse_accounts(message: DiagnosticArray) -> dict[str, Counter]:
    """Frame accounts by camera out of a DiagnosticArray, as whoever watches the node reads them."""
    accounts = {}
    for entry in message.status:
        if ": camera " in entry.name:
            accounts[entry.name.split(": camera ")[1]] = Counter({v.key: int(v.value) for v in entry.values})
    return accounts
