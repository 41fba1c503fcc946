"""Replay a recorded Panda arm through the node, live over DDS, and show what it sees.

Fits a head for the task's stages on one recording, starts the lifecycle node as its own process,
plays the other recording to it at recorded speed from a third process, and watches the topics as a
policy node would. Writes summary.json, contact_sheet.png and an MCAP bag of the outputs.
"""

import json
import os
import re
import shutil
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from vit_perception.cli import fit
from vit_perception.cli.demo_report import DemoRun, failures, summarise, write_sheet
from vit_perception.cli.paths import user_path
from vit_perception.cli.processes import PACKAGE, Child, share_folder, use_large_data_profile
from vit_perception.config.parameter_files import ParameterFile
from vit_perception.files.atomic import is_half_made, write_whole
from vit_perception.files.errors import InvalidValue, OperationFailed
from vit_perception.image.preprocess import Preprocessor
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.training.features import FeatureSource
from vit_perception.training.pictures import read_bag

CAMERAS = ("agentview", "wrist")
CONFIGURE_S = 180.0
SETTLE_S = 30.0
WRITTEN = (
    "heads",
    "outputs",
    "params.yaml",
    "sent.jsonl",
    "node.log",
    "player.log",
    "summary.json",
    "contact_sheet.png",
)


def add_arguments(parser: ArgumentParser) -> None:
    data = PACKAGE.parent / "data/demo"
    for option, default, what in (
        ("--train-bag", data / "pick_place_train", "recording to fit on"),
        ("--bag", data / "pick_place_demo", "recording to replay"),
        ("--params", share_folder() / "config/demo.yaml", "parameters of the node"),
    ):
        parser.add_argument(
            option, type=user_path, default=default, help=f"{what} (default: %(default)s)"
        )
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("demo_output"),
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, help="times the recorded speed (default: %(default)s)"
    )


def run(args: Namespace) -> int:
    console = Console()
    check(args)
    parameters = parameters_of(args.params)
    make_room(args.out)
    console.rule("1  fit a head for the task's stages on one recording")
    preprocess = fit_heads(args, parameters)
    params_file = args.out / "params.yaml"
    text = yaml.safe_dump({"/**": {"ros__parameters": parameters}})
    write_whole(params_file, lambda file: file.write_text(text))
    console.rule("2  replay the other recording through the node")
    demo = watch(args, params_file, console)
    console.rule("3  what came out")
    summary = summarise(demo)
    write_whole(
        args.out / "summary.json",
        lambda file: file.write_text(json.dumps(summary, indent=1) + "\n"),
    )
    write_sheet(demo, preprocess, args.out / "contact_sheet.png")
    print(json.dumps(summary, indent=1))
    print(
        "written: "
        f"{', '.join(str(args.out / f) for f in ('summary.json', 'contact_sheet.png', 'outputs'))}"
    )
    for failure in (failed := failures(summary)):
        print(f"FAILED: {failure}")
    return 1 if failed else 0


def check(args: Namespace) -> None:
    """Check at once what would fail in a minute.

    Raises:
        InvalidValue: An option is not accepted.
        BagError: A recording cannot be read.
    """
    if not args.rate > 0:
        raise InvalidValue(f"--rate is {args.rate}; accepted: more than 0")
    for option, path in (("--bag", args.bag), ("--train-bag", args.train_bag)):
        if not path.exists():
            raise InvalidValue(
                f"{option}: no bag at {path}; the demo's recordings are in data/demo of the "
                "repository"
            )
        with BagReader(path) as bag:
            bag.count("/task_stage")


def parameters_of(file: Path) -> dict:
    """Read the parameters that ``file`` gives to the node.

    Raises:
        InvalidValue: The demo cannot work with them.
    """
    content = ParameterFile(file)
    # An empty list is the default of every list, and there is no way to write one that all versions
    # of ROS read.
    given = {
        name: value
        for name, value in content.values_for(content.node()).items()
        if value is not None
    }
    given.setdefault("model.checkpoint", "demo")
    for name in (*(f"cameras.{camera}.topic" for camera in CAMERAS), "model.checkpoint"):
        if not isinstance(given.get(name), str):
            raise InvalidValue(
                f"--params: {file} gives no text for {name}; accepted: one with the cameras "
                f"{', '.join(CAMERAS)}, as config/demo.yaml"
            )
    return given


def make_room(out: Path) -> None:
    """Remove what an earlier demo wrote to ``out``, and nothing else.

    Raises:
        InvalidValue: There are other files.
    """
    out.mkdir(parents=True, exist_ok=True)
    half_made = "|".join(map(re.escape, WRITTEN))
    others = sorted(
        p.name for p in out.iterdir() if p.name not in WRITTEN and not is_half_made(p, half_made)
    )
    if others:
        raise InvalidValue(
            f"--out: {out} holds other files ({', '.join(others[:3])}); accepted: a new or an "
            "empty folder, or one that the demo wrote"
        )
    for path in out.iterdir():
        # Of a link only the link goes.
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def fit_heads(args: Namespace, parameters: dict) -> Preprocessor:
    """Fit one head per camera and set it in ``parameters``; return the model's preprocessing."""
    for camera in CAMERAS:
        topic = parameters[f"cameras.{camera}.topic"]
        out = args.out / "heads" / camera
        print(f"{camera}:")
        train = read_bag(args.train_bag, topic, "/task_stage", every=2)
        with FeatureSource(
            parameters["model.checkpoint"], family=parameters.get("model.family", "auto")
        ) as source:
            fit.probe(
                source=source, train=train, tests={}, method="logistic", feature="cls_mean", out=out
            )
        parameters[f"cameras.{camera}.head"] = str(out.resolve())
    return Preprocessor(source.card.rule)


def watch(args: Namespace, params_file: Path, console: Console) -> DemoRun:
    """Start node and player, and collect what the node publishes until the bag has ended."""
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
        str(params_file),
        "-p",
        "autostart:=true",
        log=args.out / "node.log",
    )
    rclpy.init()
    try:
        with BagReader(args.bag) as bag, BagWriter(args.out / "outputs") as recording:
            demo = DemoRun.of(bag, args.out / "sent.jsonl")
            watcher = OutputWatcher("/vit_encoder", recording.write)
            executor = SingleThreadedExecutor()
            executor.add_node(watcher)
            wait_for_layout(executor, watcher, encoder)
            player = Child.module(
                "vit_perception.cli.main",
                "replay",
                str(args.bag),
                "--topics",
                *demo.topics,
                "--rate",
                str(args.rate),
                "--wait-s",
                "30",
                "--log",
                str(demo.sent.path),
                log=args.out / "player.log",
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


def play(
    executor, watcher, player: Child, encoder: Child, demo: "DemoRun", console: Console
) -> None:
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


def settle(executor, watcher, demo: "DemoRun", encoder: Child) -> None:
    """Wait until the node's counters include every image sent, at most ``SETTLE_S``.

    What is missing then is lost.
    """
    deadline_s = time.monotonic() + SETTLE_S
    watcher.diagnostics = None
    while time.monotonic() < deadline_s and not demo.is_settled(watcher):
        executor.spin_once(timeout_sec=0.1)
    demo.collect(watcher)
