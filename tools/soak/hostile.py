"""python -m tools.soak.hostile --seconds 60 [--extra FOLDER]: hostile pictures and messages for a
live node. Linux.

Good frames go on between them. Exit status 1 where the node dies, an account is wrong, frames stop
or memory grows.
"""

import os
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tools.soak import hostile_faults, report
from tools.soak.__main__ import OPEN_TIMEOUT_S, add_robot_options, parameters_of, parse, say
from tools.soak.hostile_pictures import EXTRA_VARIABLE
from tools.soak.processes import resident_mb
from tools.soak.robot import Robot, Unexpected
from vit_perception.cli.processes import use_large_data_profile

# Room for pictures of the largest accepted size, which hostile files may be, beside what the node
# holds when warm.
MOST_GROWTH_MB = 600.0
ROUNDS = (
    hostile_faults.crash_pictures,
    hostile_faults.slow_pictures,
    hostile_faults.floods,
    hostile_faults.hostile_parameters,
)


def arguments_of(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m tools.soak.hostile", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="length of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--extra", type=Path, help="a folder: each of its files is sent as a compressed image, too"
    )
    add_robot_options(parser)
    return parser.parse_args(arguments)


def attack(robot: Robot, seconds: float) -> list[str]:
    """Round after round for ``seconds``, each at least once; what was not as promised."""
    failed, rounds = [], 0
    begin_s = time.monotonic()
    warm_mb = 0.0
    while not failed and (rounds < len(ROUNDS) or time.monotonic() - begin_s < seconds):
        attack_once = ROUNDS[rounds % len(ROUNDS)]
        try:
            seen = attack_once(robot)[0]
            say(
                f"{time.monotonic() - begin_s:6.1f} s  {attack_once.__name__}: {seen}; then "
                f"{resident_mb(robot.node.pid):.0f} MB"
            )
        except Unexpected as error:
            failed.append(f"{attack_once.__name__}: {error}")
        if robot.node.returncode is not None:
            return [*failed, f"the node is gone: {robot.node.tail(5)}"]
        rounds += 1
        if rounds == len(ROUNDS):
            warm_mb = resident_mb(robot.node.pid)
    robot.checkpoint()
    last_mb = resident_mb(robot.node.pid)
    say(
        f"{rounds} rounds; memory {warm_mb:.0f} MB after the first of each, {last_mb:.0f} MB at "
        "the end"
    )
    if warm_mb and last_mb > warm_mb + MOST_GROWTH_MB:
        failed.append(f"memory grew by {last_mb - warm_mb:.0f} MB; accepted: {MOST_GROWTH_MB:g} MB")
    return failed


def main(arguments: list[str]) -> int:
    args = arguments_of(arguments)
    if args.extra:
        os.environ[EXTRA_VARIABLE] = str(args.extra.resolve())
    use_large_data_profile()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    given = [word for parameter in args.parameter for word in ("-p", parameter)]
    parameters = parameters_of(parse(["--checkpoint", args.checkpoint, *given]))
    import rclpy

    rclpy.init()
    try:
        with tempfile.TemporaryDirectory(prefix="vit_perception_hostile_") as folder:
            robot = Robot(parameters, Path(folder), args.slower)
            try:
                for sensor in robot.sensors.values():
                    sensor.start()
                begin_ns = time.time_ns()
                robot.start_node()
                robot.whole_after(begin_ns, OPEN_TIMEOUT_S)
                failed = attack(robot, args.seconds)
                figures, wrong = report.camera_figures(robot), robot.observer.books.wrong
                for camera, one in figures.items():
                    say(f"{camera}: {one}")
            finally:
                robot.close()
    finally:
        rclpy.try_shutdown()
    failed += [f"books at one moment: {text}" for text in wrong[:3]] + report.balance(figures)
    for failure in failed:
        say(f"FAILED: {failure}")
    say("failed" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
