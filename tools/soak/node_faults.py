"""What happens to the node itself, to its readers and its disk. As :mod:`tools.soak.sensor_faults`.

Where the node starts anew, recovery is from its start to the first frame with all sources, the
engine's opening included.
"""

import json
import os
import signal
import sys
import time
from functools import partial

from lifecycle_msgs.msg import State, Transition

from tools.soak.node import REASON
from tools.soak.robot import NODE, ROOT, Robot, Unexpected, start_module
from tools.soak.sensor_faults import Seen
from vit_perception.cli.processes import Child
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

STOP_S = 5.0
# As the launch file's respawn_delay: the lease of config/fastdds_large_data.xml, and a little.
RESPAWN_S = 4.0
SLICE_S, FILE_LIMIT = 1.0, 15_000
CONFIG = ROOT / "config/demo.yaml"
LIMITED = (
    "import resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, "
    "n)); "
    "from vit_perception.cli.main import main; sys.exit(main(sys.argv[2:]))"
)


def _ended(sent: int, expected: int, after_s: float, robot: Robot) -> Seen:
    status, ended_s = robot.end_node(sent, STOP_S)
    if status != expected:
        raise Unexpected(f"exit status {status}: {robot.node.tail(5)}")
    time.sleep(after_s)
    begin_ns = time.time_ns()
    robot.start_node()
    return f"exit status {status} after {ended_s:.2f} s", robot.whole_after(begin_ns)


node_sigint = partial(_ended, signal.SIGINT, 0, 0.0)
node_sigterm = partial(_ended, signal.SIGTERM, 0, 0.0)
node_kill = partial(_ended, signal.SIGKILL, -signal.SIGKILL, RESPAWN_S)


def stopped_reader(robot: Robot) -> Seen:
    """A process that subscribes reliably and is then stopped: it takes nothing and acknowledges
    nothing.
    """
    usual = len(robot.frames_for(2.0))
    reader = start_module("tools.soak.sensors", "reader", NODE, log=robot.folder / "reader.log")
    try:
        robot.until(lambda: "matched" in reader.tail(), "the reader")
        time.sleep(0.3)
        os.kill(reader.pid, signal.SIGSTOP)
        time.sleep(0.5)
        frames = len(robot.frames_for(2.0))
        asked_ns = time.time_ns()
        robot.until(lambda: robot.observer.status_ns > asked_ns, "diagnostics")
        publish_ms = float(robot.observer.value("latency", "latency_ms.publish").split(" / ")[0])
    finally:
        reader.kill()
    if frames < 0.5 * usual or publish_ms > 50:
        raise Unexpected(
            f"{frames} frames in 2 s instead of {usual}, publishing takes {publish_ms:.1f} ms"
        )
    return f"{frames} frames in 2 s, {usual} without it; publish p50 {publish_ms:.1f} ms", None


def lifecycle_cycles(cycles: int, robot: Robot) -> Seen:
    """Deactivate and activate ``cycles`` times, each with its last account; then once through
    cleanup.
    """
    begin_mb = robot.observer.memory[-1][2]
    for _ in range(cycles):
        robot.transit(Transition.TRANSITION_DEACTIVATE)
        left = {c: b["pending"] for c, b in robot.observer.books.total.items() if b["pending"]}
        if left:
            raise Unexpected(f"images are still pending after deactivate: {left}")
        robot.transit(Transition.TRANSITION_ACTIVATE)
    begin_ns = time.time_ns()
    recovery_s = robot.whole_after(begin_ns)
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        robot.transit(transition)
    robot.whole_after(time.time_ns())
    time.sleep(1.1)  # until the memory has been read again
    grown_mb = robot.observer.memory[-1][2] - begin_mb
    return f"{cycles} cycles and 1 of the whole, {grown_mb:+.1f} MB", recovery_s


def engine_error(robot: Robot) -> Seen:
    before = robot.observer.books.dropped("engine_error")
    os.kill(robot.node.pid, signal.SIGUSR1)
    robot.until(lambda: robot.observer.level("engine") == 2, "ERROR of the engine")
    text = robot.observer.statuses["engine"][1]
    if REASON not in text:
        raise Unexpected(f"diagnostics say {text!r}")
    robot.until(lambda: robot.state() == State.PRIMARY_STATE_INACTIVE, "the inactive state")
    dropped = robot.observer.books.dropped("engine_error") - before
    if not 1 <= dropped <= len(robot.cameras):
        raise Unexpected(
            f"engine_error +{dropped}; at most {len(robot.cameras)} images were with the engine"
        )
    robot.observer.books.close()
    begin_ns = time.time_ns()
    robot.transit(Transition.TRANSITION_ACTIVATE)
    return f"inactive, ERROR, engine_error +{dropped}", robot.whole_after(begin_ns)


def disk_full(robot: Robot) -> Seen:
    """``embed`` beside the node, with a limit on a file's size as its full disk, and then the same
    without.
    """
    bag, out = robot.folder / "slice", robot.folder / "features"
    with BagReader(ROOT / "data/demo/pick_place_demo") as whole, BagWriter(bag) as part:
        for message in whole.raw(
            list(whole.topics), whole.start_ns, whole.start_ns + round(SLICE_S * 1e9)
        ):
            part.write(message.topic, message.type_name, message.data, message.stamp_ns)
    command = ["embed", str(bag), "--params", str(CONFIG), "--out", str(out), "--shard-frames", "8"]
    for key in ("checkpoint", "backend", "precision"):
        section = "model" if key == "checkpoint" else "engine"
        if f"{section}.{key}" in robot.parameters:
            command += [f"--{key}", robot.parameters[f"{section}.{key}"]]
    # The engine's files too would not fit, and another engine would be taken.
    before = Child.module(
        "vit_perception.cli.main",
        *command,
        "--out",
        str(robot.folder / "whole"),
        log=robot.folder / "embed_whole.log",
    )
    status = robot.until(
        lambda: before.returncode is not None and (before.stop(),), "the end of embed", 120
    )[0]
    if status != 0:
        raise Unexpected(f"without a limit: exit status {status}: {before.tail(5)}")
    full = Child(
        [sys.executable, "-c", LIMITED, str(FILE_LIMIT), *command], robot.folder / "embed_full.log"
    )
    status = robot.until(
        lambda: full.returncode is not None and (full.stop(),), "the end of embed", 120
    )[0]
    if status != 1 or "make room" not in full.tail() or "Traceback" in full.tail(100):
        raise Unexpected(f"exit status {status}: {full.tail(5)}")
    left = sorted(p.name for p in out.glob("features*"))
    begin_s = time.monotonic()
    again = Child.module("vit_perception.cli.main", *command, log=robot.folder / "embed_again.log")
    status = robot.until(
        lambda: again.returncode is not None and (again.stop(),), "the end of embed", 120
    )[0]
    manifest = json.loads((out / "manifest.json").read_text()) if status == 0 else {}
    if not manifest.get("complete") or manifest["frames"] < 15:
        raise Unexpected(f"the second run: exit status {status}, {again.tail(5)}")
    return (
        f"exit status 1 and a clear line, {len(left)} files; then all {manifest['frames']} frames",
        time.monotonic() - begin_s,
    )
