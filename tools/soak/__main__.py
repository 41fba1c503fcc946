"""make soak SOAK_S=600: three cameras at 30 Hz, two arms at 250 Hz, the node on two cores, and
faults. Linux.

Prints a table and figures, writes them as JSON. Exit status 1 where anything is not as promised.
"""

import datetime
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path

import yaml

from tools.soak import report, schedule
from tools.soak.robot import ROOT, Robot
from vit_perception.cli.processes import use_large_data_profile
from vit_perception.files.atomic import write_whole

CORES = 2
OPEN_TIMEOUT_S = 300.0
PACKAGES = ("torch", "openvino", "numpy", "ros-rclpy", "rosbags")


def add_robot_options(parser: ArgumentParser) -> None:
    """Add the options of the node and its sensors, which ``tools.soak.hostile`` takes, too."""
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the node, above those of its file; may be repeated",
    )
    parser.add_argument(
        "--checkpoint", default="demo", help="as the node's model.checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--slower",
        type=int,
        default=1,
        metavar="N",
        help="divide the sensors' rates by N, where a computer cannot receive them "
        "(default: %(default)s)",
    )


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=600.0,
        help="length of the run; 0: the "
        "faults one after the other, however long that takes (default: %(default)s)",
    )
    parser.add_argument(
        "--params",
        type=Path,
        default=ROOT / "config/three_cameras_two_arms.yaml",
        help="parameters of the node (default: %(default)s)",
    )
    add_robot_options(parser)
    parser.add_argument(
        "--faults",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="only those whose names contain one of these, the first preferred",
    )
    parser.add_argument(
        "--cycles",
        type=int,
        default=schedule.CYCLES,
        help="of the lifecycle (default: %(default)s)",
    )
    parser.add_argument(
        "--age-limit",
        choices=("engine", "worker", "none"),
        default="engine",
        help="a frame may be two runs and the slop old: runs of the engine, or, for a model that "
        "takes "
        "less time than the rest, of all that the worker does; none: ages are only shown "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks/results/soak.json",
        help="the figures (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def parameters_of(args: Namespace) -> dict:
    """The node's parameters: the file's, with every arm and camera optional, started by itself."""
    parameters = yaml.safe_load(args.params.read_text())["/**"]["ros__parameters"]
    parameters |= {
        "autostart": True,
        "model.checkpoint": args.checkpoint,
        "sync.policy": "mask",
        "poses.policy": "mask",
    }
    for given in args.parameter:
        name, _, value = given.partition("=")
        parameters[name] = yaml.safe_load(value)
    return parameters


def chosen_faults(
    args: Namespace, open_s: float
) -> tuple[list[schedule.Fault], list[schedule.Fault]]:
    """What is injected, in the order of injection, and what there is no time for."""
    faults = schedule.all_faults(args.cycles)
    wanted = faults
    if args.faults:
        wanted = list(dict.fromkeys(f for text in args.faults for f in faults if text in f.name))
    fits = (
        schedule.fitting(wanted, args.seconds - schedule.PAUSE_S, open_s)
        if args.seconds
        else wanted
    )
    return [f for f in faults if f in fits], [f for f in faults if f not in fits]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def use_two_cores() -> int:
    """Keep this process and its children on two cores, as the promise is made for; how many there
    are now.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    return len(os.sched_getaffinity(0))


def say(text: str) -> None:
    print(text, flush=True)


def run(args: Namespace, folder: Path, cores: int) -> tuple[dict, list[str]]:
    """One soak with its processes' logs in ``folder``: the report, and what failed."""
    robot = Robot(parameters_of(args), folder, args.slower)
    try:
        for sensor in robot.sensors.values():
            sensor.start()
        begin_ns = time.time_ns()
        robot.start_node()
        open_s = robot.whole_after(begin_ns, OPEN_TIMEOUT_S)
        faults, left_out = chosen_faults(args, open_s)
        say(
            f"the first frame of all sources came after {open_s:.1f} s; {len(faults)} faults in "
            f"{args.seconds:g} s"
        )
        begin_s = time.monotonic()
        outcomes = schedule.run(robot, faults, args.seconds, say)
        lasted_s = time.monotonic() - begin_s
        figures, layout = report.measure(robot, begin_s), robot.observer.layout
    finally:
        robot.close()
    failed = report.failures(outcomes, figures, args.age_limit)
    say(f"\n{report.table(outcomes)}\n\n{report.text(figures)}")
    if left_out:
        say(f"left out: {', '.join(f.name for f in left_out)}")
    limit = f"2 {args.age_limit} runs (p99) + slop" if args.age_limit != "none" else "not judged"
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", "tools.soak", *sys.argv[1:]]),
        "seconds": round(lasted_s, 1),
        "first_frame_s": round(open_s, 2),
        "cores": cores,
        "processor": processor(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "model": layout.model,
        "runtime": layout.runtime,
        "precision": layout.precision,
        "faults": schedule.rows(outcomes),
        "left_out": [f.name for f in left_out],
        "age_limit": limit,
        **figures,
        "failed": failed,
    }, failed


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    use_large_data_profile()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    cores = use_two_cores()
    import rclpy

    rclpy.init()
    try:
        with tempfile.TemporaryDirectory(prefix="vit_perception_soak_") as folder:
            result, failed = run(args, Path(folder), cores)
    finally:
        rclpy.try_shutdown()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, lambda file: file.write_text(json.dumps(result, indent=1) + "\n"))
    for failure in failed:
        say(f"FAILED: {failure}")
    say(f"{'failed' if failed else 'passed'}; written: {args.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
