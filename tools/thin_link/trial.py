"""One trial: what one form of a frame does over one link, with one set of DDS settings."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from tools.thin_link.forms import IMAGES, NODE
from tools.thin_link.link import Link, Side, two_computers
from vit_perception.cli.processes import PROFILE_VARIABLES
from vit_perception.files.errors import OperationFailed

ROOT = Path(__file__).resolve().parent.parent.parent
# What is still under way when the last frame was sent may take so long.
LAST_S = 2.0
# The network is the trial's own, whatever the caller's environment keeps apart.
ROS_DEFAULTS = {
    "ROS_DOMAIN_ID": "0",
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    "ROS_STATIC_PEERS": "",
}
START_S = 90.0  # the longest start of both ends, on a busy computer


@dataclass(frozen=True)
class Sent:
    """What is sent for a frame."""

    # images, float32, float16, int8, or a basis such as basis_64.
    form: str
    # The bag of the images, or the folder of `embed` with tokens in float32.
    recorded: Path
    # The file of the basis, of a form with one.
    basis: Path | None = None
    # Topics of the images.
    image_topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dds:
    """Settings of DDS, for both ends."""

    name: str
    environment: dict[str, str]


def run_trial(
    link: Link, sent: Sent, dds: Dds, reliable: bool, rate_hz: float, seconds: float
) -> dict:
    """Send frames over ``link`` and return the row of the results.

    Raises:
        OperationFailed: A program fails, or the two do not find each other.
    """
    reliability = "reliable" if reliable else "best_effort"
    environment = environment_of(dds)
    listen = [IMAGES if sent.image_topics else NODE, reliability, *sent.image_topics]
    send = [sent.form, str(sent.recorded), str(rate_hz), str(seconds), reliability]
    send += [str(sent.basis)] if sent.basis else []
    with tempfile.TemporaryDirectory() as logs, two_computers(link) as (robot, desk):
        log = Path(logs) / "log"
        with log.open("w") as said:
            receiver = start_module(desk, f"{__package__}.receiver", listen, environment, said)
            before = robot.sent_bytes()
            sender = start_module(robot, f"{__package__}.sender", send, environment, said)
            try:
                sender_says = first_line(sender, START_S + seconds)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    receiver.wait(LAST_S)
                link_bytes = robot.sent_bytes() - before
                received = result_of(receiver, START_S)
            except (ValueError, subprocess.TimeoutExpired) as error:
                raise OperationFailed(f"a trial failed: {log.read_text().strip()}") from error
            finally:
                robot.stop(sender)
                desk.stop(receiver)
    return {
        "link": link.name,
        "form": sent.form,
        "dds": dds.name,
        "reliable": reliable,
        "rate_hz": rate_hz,
        "seconds": seconds,
        **sender_says,
        **figures(received["frames"], seconds),
        "link_kB_s": round(link_bytes / 1e3 / seconds),
        "errors": len(received["errors"]),
    }


def figures(frames: list[tuple[int, int]], seconds: float) -> dict:
    """Return frames a second and ages in ms of ``frames``: stamp and arrival of each, ns."""
    ages_ms = [(arrival_ns - stamp_ns) / 1e6 for stamp_ns, arrival_ns in frames]
    return {
        "arrived": len(ages_ms),
        "frames_s": round(len(ages_ms) / seconds, 1),
        "age_p50_ms": round(statistics.median(ages_ms)) if ages_ms else None,
        "age_p99_ms": round(float(np.percentile(ages_ms, 99))) if ages_ms else None,
    }


def environment_of(dds: Dds) -> dict[str, str]:
    """Return the environment of every process of a trial."""
    kept = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    # A process that enters another computer's namespaces does not keep its folder.
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    own = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    return {**kept, **own, **ROS_DEFAULTS, **dds.environment}


def start_module(
    side: Side, module: str, arguments: Sequence[str], environment: dict[str, str], log: IO[str]
) -> "subprocess.Popen[str]":
    """Start a module with this Python at ``side``; what it says on stderr goes to ``log``."""
    return side.start([sys.executable, "-m", module, *arguments], environment, log)


def first_line(process: "subprocess.Popen[str]", timeout_s: float) -> dict:
    """Return the first object that ``process`` prints.

    Raises:
        ValueError: It ends without it, or prints nothing in time.
    """
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            raise ValueError("nothing was printed")
    return dict(json.loads(process.stdout.readline()))


def result_of(receiver: "subprocess.Popen[str]", timeout_s: float) -> dict:
    """End the receiver, and return the object that it prints at its end."""
    printed, _ = receiver.communicate(timeout=timeout_s)
    return dict(json.loads(printed.splitlines()[-1] if printed else ""))
