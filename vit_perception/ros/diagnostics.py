"""``/diagnostics``: rates, ages, stage latencies, frame and pose accounts, memory, and what engine
really runs.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vit_perception.files.errors import printable
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.timing.latencies import StageLatencies, rate_hz
from vit_perception.ros.health.judge import Finding, Judge
from vit_perception.ros.health.situations import RECEIVING, STARTING
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.source import DerivedSource, SampledSource

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_COUNTS = ("received", "published", "pending")


class SourceReport(NamedTuple):
    """The status of one source, and what it says in full once the ROS graph was asked."""

    status: DiagnosticStatus
    finding: Finding
    arrivals_ns: Sequence[int]  # monotonic, of the latest usable messages


def status(name: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    """One DiagnosticStatus with its values as text, without what a message or a terminal cannot
    take.
    """
    return DiagnosticStatus(
        name=name,
        level=level,
        message=printable(message),
        values=[
            KeyValue(key=printable(str(k)), value=printable(str(v))) for k, v in values.items()
        ],
    )


def engine_status(
    node_name: str, pipeline: Pipeline | None, message: str, level: bytes = OK
) -> DiagnosticStatus:
    """What runs: runtime, precision, device, parity figures, what falls short, why earlier backends
    were not taken.
    """
    values: dict[str, object] = {}
    if pipeline is not None:
        engine, report = pipeline.engine, pipeline.opened.report
        values = {
            "runtime": engine.runtime,
            "precision": engine.precision,
            "device": engine.device,
            "model": pipeline.card.name,
            "weights_sha256": pipeline.card.weights_sha256,
            "min_cosine": f"{report.min_cosine:.6f}",
            "parity": str(report),
        }
        if engine.note:
            values["note"] = engine.note
        values |= {f"not_taken.{backend}": why for backend, why in pipeline.opened.tried}
        further = list(zip(pipeline.parts.encoders, pipeline.every_opened, strict=True))[1:]
        for encoder, opened in further:
            its_own = {
                "runtime": opened.engine.runtime,
                "precision": opened.engine.precision,
                "device": opened.engine.device,
                "model": encoder.card.name,
                "weights_sha256": encoder.card.weights_sha256,
                "min_cosine": f"{opened.report.min_cosine:.6f}",
                "parity": str(opened.report),
                **({"note": opened.engine.note} if opened.engine.note else {}),
                **{f"not_taken.{backend}": why for backend, why in opened.tried},
            }
            values |= {f"{encoder.name}.{key}": value for key, value in its_own.items()}
    return status(f"{node_name}: engine", level, message, values)


def camera_statuses(
    node_name: str,
    sync: CameraSync,
    now_ns: int,
    latencies: Mapping[str, StageLatencies],
    judge: Judge,
    counts: Callable[[str], Mapping[str, int]] = lambda camera: {},
) -> list[SourceReport]:
    """The counters of every camera: ``received = published + dropped.* + pending``; its rates, age
    and latencies; ``counts`` of its CameraInfo and depth images.

    ERROR: it is silent. WARN: its images come, and none goes out. Call with the lock held.
    """
    reports = []
    for camera, account in sync.accounts.items():
        published = latencies.get(camera, StageLatencies())
        published_hz = published.rate_hz()
        values: dict[str, object] = {
            "received": account.received,
            "published": account.published,
            "pending": sync.pending(camera),
        }
        values |= {f"dropped.{reason}": n for reason, n in sorted(account.dropped.items())}
        values |= {
            "rate_hz": f"{rate_hz(account.arrivals_ns, now_ns):.2f}",
            "published_hz": f"{published_hz:.2f}",
            "age_s": f"{sync.age_ns(camera, now_ns) / 1e9:.3f}",
            **published.summary(),
            **counts(camera),
        }
        finding = judge.camera(camera, sync, published_hz, now_ns)
        level = OK if finding.situation == RECEIVING else WARN
        if sync.is_silent(camera, now_ns) and finding.situation != STARTING:
            level = ERROR
        said = status(f"{node_name}: camera {camera}", level, finding.says, values)
        reports.append(SourceReport(said, finding, account.arrivals_ns))
    return reports


def sample_statuses(
    node_name: str,
    sources: Sequence[SampledSource],
    inputs: SampleInputs,
    now_ns: int,
    judge: Judge,
) -> list[SourceReport]:
    """The counters of every other source: messages refused, how it was had at images, its skew,
    rate and age.

    Call with the lock held.
    """
    reports = []
    for source in sources:
        account = inputs.accounts[source.name]
        values: dict[str, object] = {"received": account.received}
        values |= {f"refused.{reason}": n for reason, n in sorted(account.refused.items())}
        values |= {"crowded_out": account.crowded_out} if account.crowded_out else {}
        values |= {key: account.statuses[key] for key in ("interpolated", "held", "missing")}
        if account.skew_ms:
            median, largest = np.median(account.skew_ms), max(account.skew_ms)
            values["skew_ms"] = f"{median:.2f} / {largest:.2f}"
            # One number each, for tools that plot.
            values |= {"skew_p50_ms": f"{median:.2f}", "skew_max_ms": f"{largest:.2f}"}
        values["rate_hz"] = f"{rate_hz(account.arrivals_ns, now_ns):.2f}"
        if account.arrivals_ns:
            values["age_s"] = f"{(now_ns - account.arrivals_ns[-1]) / 1e9:.3f}"
        finding = judge.sample(source, account, now_ns)
        level = OK if finding.situation == RECEIVING else WARN
        said = status(f"{node_name}: {source.label} {source.name}", level, finding.says, values)
        reports.append(SourceReport(said, finding, account.arrivals_ns))
    return reports


def derived_statuses(
    node_name: str, sources: Sequence[DerivedSource], inputs: SampleInputs
) -> list[DiagnosticStatus]:
    """Whether the tokens of sources that are made of others were there at the latest image, and how
    often they were not, by reason.

    WARN: they were not. Where one of the others had no sample, its own status says why. Call with
    the lock held.
    """
    statuses = []
    for source in sources:
        latest = {name: inputs.accounts[name].latest for name in source.made_of}
        lacking = [name for name, found in latest.items() if found == "missing"]
        why = inputs.why_masked.get(source.name, "")
        counted = sorted(inputs.masked.get(source.name, Counter()).items())
        if why:
            says = f"its tokens are masked at the latest image: {why}"
        elif lacking:
            says = f"its token is masked: no sample of {', '.join(lacking)} at the latest image"
        else:
            is_made = source.name in inputs.why_masked
            says = "made at the latest image" if is_made else "waiting for an image"
        values: dict[str, object] = {f"masked.{reason}": count for reason, count in counted}
        is_only_one = source.name == source.group
        name = f"{node_name}: {source.label}" + ("" if is_only_one else f" {source.name}")
        statuses.append(status(name, WARN if why or lacking else OK, says, values | latest))
    return statuses


def process_status(node_name: str) -> DiagnosticStatus:
    """Memory and threads of the node's process. Linux; elsewhere only the threads."""
    values: dict[str, object] = {"threads": threading.active_count()}
    statm = Path("/proc/self/statm")
    if statm.exists():
        values["rss_mb"] = (
            f"{int(statm.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6:.1f}"
        )
    return status(f"{node_name}: process", OK, "running", values)


def latency_status(node_name: str, latencies: StageLatencies) -> DiagnosticStatus:
    """Rate of frames, and p50 / p99 of each stage."""
    return status(
        f"{node_name}: latency",
        OK,
        "p50 / p99 in ms",
        {"rate_hz": f"{latencies.rate_hz():.2f}", **latencies.summary()},
    )


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
            accounts[entry.name.split(": camera ")[1]] = Counter(
                {
                    v.key: int(v.value)
                    for v in entry.values
                    if v.key in _COUNTS or v.key.startswith("dropped.")
                }
            )
    return accounts
