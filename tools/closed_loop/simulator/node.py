"""The simulated robot of the loop, as a process of its own.

    python -m tools.closed_loop.simulator.node --task lift --condition dim --seeds 100000 20 \\
        --out episodes.jsonl --accounts accounts.json

It sends two cameras, the hand's pose and the gripper's opening with simulated time on /clock, and
takes chunks of target poses and gripper commands. In lockstep, time stands still until the chunk
for the last observation has come, or ``--deadline-s`` has passed: results do not depend on the
machine's speed. ``--real-time`` runs on the wall's clock instead, with the delays that there are.
An episode that stands in ``--out`` is not run again.
"""

import argparse
import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import rclpy

from tools.closed_loop.interface import (
    CONDITIONS,
    TASKS,
    TROUBLES,
    has_goal,
)
from tools.closed_loop.recipe import RECIPE
from tools.closed_loop.simulator.conditions import condition
from tools.closed_loop.simulator.pictures import save_picture
from tools.closed_loop.simulator.robot import Robot
from tools.closed_loop.simulator.ros_side import Peers, RosSide
from tools.closed_loop.simulator.scene import Scene
from tools.closed_loop.simulator.tasks import task


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.closed_loop.simulator.node",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--condition", choices=CONDITIONS, default=CONDITIONS[0])
    parser.add_argument(
        "--seeds", nargs=2, type=int, metavar=("FIRST", "COUNT"), required=True, help="of episodes"
    )
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each episode")
    parser.add_argument("--accounts", type=Path, required=True, help="JSON, written at the end")
    parser.add_argument(
        "--longest-steps", type=int, help="control steps of an episode (default: the task's)"
    )
    parser.add_argument("--real-time", action="store_true", help="do not wait for the policy")
    parser.add_argument(
        "--deadline-s",
        type=float,
        default=20.0,
        help="wall time for the answer to an observation, in lockstep (default: %(default)s)",
    )
    parser.add_argument("--film", type=Path, help="folder for a picture of each control step")
    parser.add_argument("--trouble", choices=TROUBLES, default=TROUBLES[0])
    parser.add_argument(
        "--peers-s", type=float, default=300.0, help="wait for the others (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def seeds_done(path: Path) -> set[int]:
    """Return the seeds whose lines are whole; a line that a killed run left half is cut off."""
    if not path.exists():
        return set()
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        path.write_bytes(whole)
    return {json.loads(line)["seed"] for line in whole.splitlines()}


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    first, count = args.seeds
    done = seeds_done(args.out)
    seeds = [seed for seed in range(first, first + count) if seed not in done]
    rclpy.init()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    try:
        what = task(args.task)
        if args.longest_steps is not None:
            what = replace(what, longest_steps=args.longest_steps)
        scene = Scene(what, condition(args.condition), RECIPE.image_px)
        ros = RosSide(has_goal(args.task))

        def film(seed: int, step: int) -> None:
            save_picture(scene, args.film / f"{seed}_{step:03d}.png")

        robot = Robot(scene, ros, args, film if args.film else None)
        ros.wait_for_peers(args.peers_s)
        robot.rehearse()
        with args.out.open("a") as out:
            for seed in seeds:
                result = robot.run(seed)
                if not rclpy.ok():
                    return 1
                out.write(json.dumps(result) + "\n")
                out.flush()
                print(json.dumps(result), flush=True)
        accounts = robot.close_accounts()
        args.accounts.write_text(json.dumps(asdict(accounts)) + "\n")
        if wrong := accounts.wrong():
            print(f"the accounts do not close: {wrong}", flush=True)
            status = 1
    except Peers as error:
        print(error, flush=True)
        status = 1
    except KeyboardInterrupt:
        status = 130
    finally:
        rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
