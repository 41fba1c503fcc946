"""``/diagnostics``: rates, ages, stage latencies, frame and pose accounts, memory, and what engine
really runs.
"""

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vit_perception.files.errors import printable
from vit_perception.pipeline.latencies import WINDOW_S, StageLatencies, rate_hz
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_history import how_far
from vit_perception.streams.sample_inputs import SampleAccount, SampleInputs
from vit_perception.tokens.source import SampledSource

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
# Stamps that are further apart than that, while both streams come, are of clocks that differ.
CLOCKS_DIFFER_NS = 1_000_000_000
_COUNTS = ("received", "published", "pending")


class SourceReport(NamedTuple):
    """The status of one source, and what the ROS graph is asked for where nothing comes."""

    status: DiagnosticStatus
    nothing_comes: bool
    received: int  # messages so far
    age_s: float | None  # since the last usable message; None where that is not known


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
    return status(f"{node_name}: engine", level, message, values)


def camera_statuses(
    node_name: str,
    sync: CameraSync,
    now_ns: int,
    latencies: Mapping[str, StageLatencies],
    started_ns: int,
) -> list[SourceReport]:
    """The counters of every camera: ``received = published + dropped.* + pending``; its rates, age
    and latencies.

    ERROR: it is silent. WARN: its images come, and for 5 s none went out. Call with the lock held.
    """
    reports = []
    for camera, account in sync.accounts.items():
        published = latencies.get(camera, StageLatencies())
        arrived_hz, published_hz = rate_hz(account.arrivals_ns, now_ns), published.rate_hz()
        values: dict[str, object] = {
            "received": account.received,
            "published": account.published,
            "pending": sync.pending(camera),
        }
        values |= {f"dropped.{reason}": n for reason, n in sorted(account.dropped.items())}
        age_s = sync.age_ns(camera, now_ns) / 1e9
        values |= {
            "rate_hz": f"{arrived_hz:.2f}",
            "published_hz": f"{published_hz:.2f}",
            "age_s": f"{age_s:.3f}",
            **published.summary(),
        }
        level, message = OK, "receiving"
        is_silent = sync.is_silent(camera, now_ns)
        if is_silent:
            level, message = ERROR, "no image lately"
        elif arrived_hz and not published_hz and now_ns - started_ns > WINDOW_S * 1e9:
            most = max(account.dropped, key=account.dropped.get, default="still pending")
            level, message = (
                WARN,
                f"images come, but none was published for {WINDOW_S:g} s; mostly {most}",
            )
            other, off_ns = max(
                sync.apart_ns(camera, now_ns).items(),
                key=lambda each: abs(each[1]),
                default=("", 0),
            )
            message += _clocks(off_ns, f"those of {other}") if most == "unmatched" else ""
        said = status(f"{node_name}: camera {camera}", level, message, values)
        reports.append(SourceReport(said, is_silent, account.received, age_s))
    return reports


def sample_statuses(
    node_name: str, sources: Sequence[SampledSource], inputs: SampleInputs, now_ns: int
) -> list[SourceReport]:
    """The counters of every other source: messages refused, how it was had at images, its skew,
    rate and age.

    Call with the lock held.
    """
    return [
        _sample_status(
            f"{node_name}: {source.label} {source.name}",
            source.sample_label,
            inputs.accounts[source.name],
            now_ns,
        )
        for source in sources
    ]


def _sample_status(name: str, what: str, account: SampleAccount, now_ns: int) -> SourceReport:
    values: dict[str, object] = {"received": account.received}
    values |= {f"refused.{reason}": n for reason, n in sorted(account.refused.items())}
    values |= {"crowded_out": account.crowded_out} if account.crowded_out else {}
    values |= {key: account.statuses[key] for key in ("interpolated", "held", "missing")}
    if account.skew_ms:
        values["skew_ms"] = f"{np.median(account.skew_ms):.2f} / {max(account.skew_ms):.2f}"
    values["rate_hz"] = f"{rate_hz(account.arrivals_ns, now_ns):.2f}"
    age_s = None
    if account.arrivals_ns:
        age_s = (now_ns - account.arrivals_ns[-1]) / 1e9
        values["age_s"] = f"{age_s:.3f}"
    text, nothing_comes = "", not account.received
    if not account.received:
        text = f"no {what} has come" + (f": {account.trouble}" if account.trouble else "")
    elif account.latest == "missing":
        nothing_comes = account.silent and age_s is not None
        text = f"no {what} {'lately' if nothing_comes else 'near the latest image'}"
        if account.lacking:
            text += f": {', '.join(account.lacking)}"
        text += f"; {_how_far(account)}"
    said = status(name, WARN if text else OK, text or "receiving", values)
    return SourceReport(said, nothing_comes, account.received, age_s)


def _how_far(account: SampleAccount) -> str:
    """How far the nearest one was from the latest image, what was refused if there is none, and
    whose clock is off.
    """
    text = how_far(account.nearest_ns)
    if account.nearest_ns is None:
        most = max(account.refused, key=account.refused.get, default="")
        return f"{text}, {account.refused.total()} were refused, mostly as {most}" if most else text
    # Of a stream that has ended the last sample gets older and older: that says nothing of clocks.
    return text if account.silent else text + _clocks(account.ahead_ns, "the image's")


def _clocks(ahead_ns: int, whose: str) -> str:
    if abs(ahead_ns) <= CLOCKS_DIFFER_NS:
        return ""
    way = "ahead of" if ahead_ns > 0 else "behind"
    return f"; the clocks differ: its stamps are {abs(ahead_ns) / 1e9:.1f} s {way} {whose}"


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
