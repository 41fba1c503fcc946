"""Run the node and the player as processes, and watch the node's topics as a policy would."""

import os
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from vit_perception.cli.live_demo.report import DemoRun
from vit_perception.cli.processes import Child, use_large_data_profile
from vit_perception.files.errors import OperationFailed
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

PARAMETERS = "params.yaml"
CONFIGURE_S = 180.0
SETTLE_S = 30.0


def watch(*, bag_path: Path, out: Path, rate: float, console: Console) -> DemoRun:
    """Start node and player, and collect what the node publishes until the bag has ended.

    The node takes its parameters from ``out``, and everything is written there. ``rate`` is times
    the recorded speed.

    Raises:
        OperationFailed: The node or the player ended, or did not start.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from vit_perception.ros.playback.output_watcher import OutputWatcher

    use_large_data_profile()
    # Nothing leaves this machine unless the user has said otherwise.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    encoder = Child.module(
        "vit_perception.ros.start",
        "--ros-args",
        "--params-file",
        str(out / PARAMETERS),
        "-p",
        "autostart:=true",
        log=out / "node.log",
    )
    rclpy.init()
    try:
        with BagReader(bag_path) as bag, BagWriter(out / "outputs") as recording:
            demo = DemoRun.of(bag, out / "sent.jsonl")
            watcher = OutputWatcher("/vit_encoder", recording.write)
            executor = SingleThreadedExecutor()
            executor.add_node(watcher)
            wait_for_layout(executor, watcher, encoder)
            player = Child.module(
                "vit_perception.cli.main",
                "replay",
                str(bag_path),
                "--topics",
                *demo.topics,
                "--rate",
                str(rate),
                "--wait-s",
                "30",
                "--log",
                str(demo.sent.path),
                log=out / "player.log",
            )
            play(executor, watcher, player, encoder, demo, console)
            if (status := player.stop()) != 0:
                raise OperationFailed(
                    f"the player ended with exit status {status}:\n{player.tail()}"
                )
            demo.collect(watcher)
            settle(executor=executor, watcher=watcher, demo=demo, encoder=encoder)
        status = encoder.stop()
        if status != 0:
            raise OperationFailed(f"the node ended with exit status {status}:\n{encoder.tail()}")
        return demo
    except ExternalShutdownException as error:  # Ctrl-C, as rclpy reports it
        raise KeyboardInterrupt from error
    finally:
        encoder.stop()
        rclpy.try_shutdown()


def wait_for_layout(executor, watcher, encoder: Child) -> None:
    """Spin until the node has published its layout.

    Raises:
        OperationFailed: It ended or did not; the message has its last lines.
    """
    deadline_s = time.monotonic() + CONFIGURE_S
    while watcher.layout is None:
        check_alive(encoder)
        failed = [
            s.message
            for s in (watcher.diagnostics.status if watcher.diagnostics else ())
            if s.level == b"\x02"
        ]
        if failed or time.monotonic() > deadline_s:
            why = failed[0] if failed else f"~/layout did not come within {CONFIGURE_S:g} s"
            raise OperationFailed(f"the node is not ready: {why}; it said:\n{encoder.tail()}")
        executor.spin_once(timeout_sec=0.1)


def check_alive(encoder: Child) -> None:
    """Check that the node runs.

    Raises:
        OperationFailed: It has ended; the message has its last lines.
    """
    if encoder.returncode is not None:
        raise OperationFailed(
            f"the node ended with exit status {encoder.returncode}:\n{encoder.tail()}"
        )


def play(executor, watcher, player: Child, encoder: Child, demo: DemoRun, console: Console) -> None:
    """Spin while the bag plays, with a progress bar and a line about the newest frame."""
    progress = Progress(
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
    )
    bar = progress.add_task("", total=demo.duration_s)
    shown = 0
    printed = 0
    with Live(progress, console=console, refresh_per_second=10) as live:
        while player.returncode is None:
            executor.spin_once(timeout_sec=0.1)
            check_alive(encoder)
            complete = [s for s, f in watcher.frames.items() if f.received_ns]
            if len(complete) == shown:
                continue
            shown = len(complete)
            stamp_ns = complete[-1]
            line = demo.line(shown, stamp_ns, watcher.frames[stamp_ns])
            progress.update(bar, completed=(stamp_ns - demo.start_ns) / 1e9)
            live.update(Group(progress, Text(line)))
            # A log has no live line: say something now and then.
            if not console.is_terminal and shown >= printed + 20:
                printed = shown
                console.print(line, soft_wrap=True)
        if player.returncode == 0:
            progress.update(bar, completed=demo.duration_s)
    if not console.is_terminal:
        print(flush=True)  # a log has no cursor that the live line could have left in place


def settle(executor, watcher, demo: DemoRun, encoder: Child) -> None:
    """Wait until the node's counters include every image sent, at most ``SETTLE_S``.

    What is missing then is lost.
    """
    deadline_s = time.monotonic() + SETTLE_S
    watcher.diagnostics = None
    while time.monotonic() < deadline_s and not demo.is_settled(watcher):
        executor.spin_once(timeout_sec=0.1)
    demo.collect(watcher)
