"""One trial with the real node: cameras are replayed at the robot's side, and the node encodes.

The node, the replay and a witness are processes at the robot's side; the receiver is at the desk's.
The witness hears the small `~/token_mask`, which the node sends just before the tokens, through the
robot's own shared memory: so it knows when a frame was published, whatever the link does.
"""

import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from tools.thin_link.forms import MASKS, NODE
from tools.thin_link.link import Link, Side, two_computers
from tools.thin_link.trial import (
    START_S,
    Dds,
    environment_of,
    figures,
    first_line,
    result_of,
    start_module,
)
from vit_perception.files.errors import OperationFailed
from vit_perception.wire import topics

# After the last image all frames have arrived when the link carries less than any frame in QUIET_S,
# in which the node encodes one.
LAST_S, QUIET_S, QUIET_BYTES = 30.0, 2.0, 20_000
MASK_TOPIC = f"{NODE}/{topics.TOKEN_MASK.name}"
QOS = "best_effort"
OVERRIDE = f"qos_overrides.{NODE}/{topics.TOKENS.name}.publisher.reliability"


def parameters_of(base: Path, form: str, basis: Path | None) -> dict[str, Any]:
    """Return the content of ``base``, a parameter file, for a node that sends ``form``."""
    given = dict(yaml.safe_load(base.read_text()))
    parameters = given["/**"]["ros__parameters"]
    parameters |= {"autostart": True, OVERRIDE: QOS}
    parameters |= {"tokens.basis": str(basis)} if basis else {"output_dtype": form}
    return given


def topics_of(parameters: dict[str, Any], group: str) -> list[str]:
    """Return the topics of the node's ``cameras`` or ``poses``."""
    given = parameters["/**"]["ros__parameters"].items()
    return [v for name, v in given if name.startswith(f"{group}.") and name.endswith(".topic")]


def run_node_trial(
    link: Link,
    form: str,
    dds: Dds,
    *,
    bag: Path,
    parameters: dict[str, Any],
    speed: float,
    rate_hz: float,
    seconds: float,
) -> dict[str, Any]:
    """Replay ``bag`` at ``speed`` to a node beside it, and return the row of the results.

    ``rate_hz`` is the rate of the images at that speed, and ``parameters`` the content of the
    node's parameter file.

    Raises:
        OperationFailed: A program fails.
    """
    environment = environment_of(dds)
    with tempfile.TemporaryDirectory() as folder, two_computers(link) as (robot, desk):
        params, log, sent_log = (Path(folder) / name for name in ("node.yaml", "log", "sent"))
        params.write_text(yaml.safe_dump(parameters))
        # What the node does not take has no subscriber, for which the replay would wait.
        images = topics_of(parameters, "cameras")
        taken = [*images, *topics_of(parameters, "poses")]
        ros_arguments = ["--ros-args", "--params-file", str(params)]
        replay_arguments = ["replay", str(bag), "--rate", str(speed), "--log", str(sent_log)]
        replay_arguments += ["--duration", str(seconds * speed), "--wait-s", str(START_S)]
        replay_arguments += ["--topics", *taken]
        with log.open("w") as said, contextlib.ExitStack() as stack:

            def start(side: Side, module: str, *arguments: str) -> "subprocess.Popen[str]":
                return stack.enter_context(_running(side, module, arguments, environment, said))

            try:
                receiver = start(desk, "tools.thin_link.receiver", NODE, QOS)
                start(robot, "vit_perception.ros.start", *ros_arguments)
                witness = start(robot, "tools.thin_link.receiver", MASKS, QOS, MASK_TOPIC)
                first_line(witness, START_S)
                first_line(receiver, START_S)
                before = robot.sent_bytes()
                replay = start(robot, "vit_perception.cli.main", *replay_arguments)
                if replay.wait(2 * START_S + seconds):
                    raise ValueError("the replay failed")
                _wait_until_quiet(robot, receiver)
                link_bytes = robot.sent_bytes() - before
                received, masks = (result_of(each, START_S) for each in (receiver, witness))
            except (ValueError, subprocess.TimeoutExpired) as error:
                raise OperationFailed(f"a trial failed ({error}): {log.read_text()}") from error
        sent = sent_frames(sent_log.read_text(), images)
    return {
        "link": link.name,
        "form": form,
        "dds": dds.name,
        "reliable": False,
        "rate_hz": rate_hz,
        "seconds": seconds,
        **node_figures(sent, masks["frames"], received["frames"], seconds),
        "link_kB_s": round(link_bytes / 1e3 / seconds),
        "errors": len(received["errors"]),
    }


@contextlib.contextmanager
def _running(
    side: Side,
    module: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    log: IO[str],
) -> Iterator["subprocess.Popen[str]"]:
    """Run a module at ``side`` while the block runs."""
    process = start_module(side, module, arguments, environment, log)
    try:
        yield process
    finally:
        side.stop(process)


def _wait_until_quiet(robot: Side, receiver: "subprocess.Popen[str]") -> None:
    """Wait until what is under way has arrived, for LAST_S at most."""
    deadline_s, before = time.monotonic() + LAST_S, robot.sent_bytes()
    while time.monotonic() < deadline_s:
        with contextlib.suppress(subprocess.TimeoutExpired):
            receiver.wait(QUIET_S)  # it does not end by itself
        before, earlier = robot.sent_bytes(), before
        if before - earlier < QUIET_BYTES:
            return


def sent_frames(log: str, image_topics: Sequence[str]) -> dict[int, int]:
    """Return when each frame's first image was sent (wall clock, ns), by the frame's stamp.

    ``log`` is that of `vit-perception replay --log`. The replay keeps the recorded stamps, so this
    is the moment that a camera would have put into the header.
    """
    sent: dict[int, int] = {}
    for line in log.splitlines():
        entry = json.loads(line)
        if entry["topic"] in image_topics:
            sent.setdefault(entry["stamp_ns"], entry["sent_ns"])
    return sent


def node_figures(
    sent: dict[int, int],
    published: list[tuple[int, int]],
    arrived: list[tuple[int, int]],
    seconds: float,
) -> dict[str, Any]:
    """Return counts and ages in ms.

    ``sent`` has the moment of each frame's images by stamp; ``published`` and ``arrived`` have the
    stamp of each frame of the node and when it was there, ns.
    """
    published_ns = dict(published)
    encoded_ms = [(published_ns[stamp] - sent[stamp]) / 1e6 for stamp in published_ns]
    # A mask that its local witness did not get is no frame less of the node.
    link_ms = [(at_ns - published_ns[s]) / 1e6 for s, at_ns in arrived if s in published_ns]
    return {
        "found": True,
        "sent": len(sent),
        "published": len(published_ns),
        **figures([(sent[stamp], at_ns) for stamp, at_ns in arrived], seconds),
        "encoded_p50_ms": round(statistics.median(encoded_ms)) if encoded_ms else None,
        "link_p50_ms": round(statistics.median(link_ms)) if link_ms else None,
        "link_p99_ms": round(float(np.percentile(link_ms, 99))) if link_ms else None,
    }
