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
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import rclpy

from tools.closed_loop.accounts import Accounts
from tools.closed_loop.chunks import Chunk
from tools.closed_loop.interface import (
    CAMERAS,
    CONDITIONS,
    CONTROL_PERIOD_NS,
    DROPPED,
    OBSERVE_EVERY,
    OPEN,
    TASKS,
    TROUBLES,
    has_goal,
)
from tools.closed_loop.recipe import RECIPE
from tools.closed_loop.simulator.conditions import condition
from tools.closed_loop.simulator.episode import Episode
from tools.closed_loop.simulator.ros_side import Hand, Peers, RosSide
from tools.closed_loop.simulator.scene import Scene
from tools.closed_loop.simulator.tasks import task

# Longer than the encoder's and the policies' longest gap within an episode.
PAUSE_NS = 2_000_000_000
REHEARSALS = 60


class Robot:
    """Runs episodes of one scene."""

    def __init__(self, scene: Scene, ros: RosSide, args: argparse.Namespace):
        self._scene = scene
        self._ros = ros
        self._args = args
        self._stamp_ns = PAUSE_NS
        self._chunk: Chunk | None = None
        self._waiting: set[int] = set()  # stamps of observations without a chunk
        silent = ("wrist",) if args.trouble == "wrist silent" else ()
        self._cameras = [name for name in CAMERAS if name not in silent]
        self._hand: Hand | None = None  # at the control step before
        self._drops = np.random.default_rng(0)
        self.accounts = Accounts()

    def rehearse(self) -> None:
        """Send observations until one is answered: DDS has then connected all processes.

        Raises:
            Peers: none was answered.
        """
        for _ in range(REHEARSALS):
            self.accounts.rehearsals += 1
            stamp_ns = self._stamp_ns
            self._ros.send_clock(stamp_ns)
            self._send(stamp_ns, self._cameras)
            answered = self._ros.wait_for_chunk(stamp_ns, 2.0)
            self._stamp_ns += CONTROL_PERIOD_NS
            if answered:
                # The others' answers may still come.
                self._ros.receive_for(1.0)
                self.accounts.rehearsed = 1 + self._ros.inputs.forget()
                return
        raise Peers(f"none of {REHEARSALS} observations was answered")

    def run(self, seed: int) -> dict:
        """Run an episode, and return its result."""
        self._scene.reset(seed)
        episode = Episode(self._scene, seed)
        self._chunk = None
        self._hand = None
        self._drops = np.random.default_rng([seed, 3])
        self._stamp_ns += PAUSE_NS
        before = asdict(self.accounts)
        begin_s = time.monotonic()
        while not episode.over and rclpy.ok():
            self._ros.send_clock(self._stamp_ns)
            if episode.steps % self._observe_every == 0:
                self._observe()
            self._hand = Hand(self._stamp_ns, *self._scene.hand())
            if self._args.real_time:
                due_s = begin_s + (episode.steps + 1) * CONTROL_PERIOD_NS * 1e-9
                self._ros.receive_for(due_s - time.monotonic())
                self._take(self._ros.inputs.take_newest())
            self._step()
            episode.watch()
            self._stamp_ns += CONTROL_PERIOD_NS
        self.accounts.missed += len(self._waiting)
        self._waiting.clear()
        self.accounts.unused += self._ros.inputs.forget()
        after = asdict(self.accounts)
        counted = {
            name: after[name] - before[name]
            for name in ("observations", "applied", "missed", "dropped")
        }
        return episode.result() | counted

    @property
    def _observe_every(self) -> int:
        return OBSERVE_EVERY * (2 if self._args.trouble == "half as often" else 1)

    def _send(self, stamp_ns: int, cameras: list[str]) -> None:
        hand = Hand(stamp_ns, *self._scene.hand())
        if self._args.trouble == "pose late":
            hand = self._hand or hand._replace(stamp_ns=stamp_ns - CONTROL_PERIOD_NS)
        self._ros.send_observation(stamp_ns, self._scene, hand, cameras)

    def _observe(self) -> None:
        stamp_ns = self._stamp_ns
        if self._args.trouble == "frames dropped" and self._drops.random() < DROPPED:
            # Nobody can answer it, so nobody is waited for.
            self.accounts.dropped += 1
            self._send(stamp_ns, [])
            return
        self.accounts.observations += 1
        self._waiting.add(stamp_ns)
        self._send(stamp_ns, self._cameras)
        if not self._args.real_time:
            self._take(self._ros.wait_for_chunk(stamp_ns, self._args.deadline_s))

    def _take(self, chunk: Chunk | None) -> None:
        if chunk is None:
            return
        if chunk.stamp_ns not in self._waiting:
            self.accounts.unused += 1
        else:
            self._waiting.remove(chunk.stamp_ns)
            self._chunk = chunk
            self.accounts.applied += 1

    def _step(self) -> None:
        """Carry out what the newest chunk has for now; without one, stay."""
        if self._chunk is None:
            position_m, quaternion = self._scene.hand()
            self._scene.step(position_m, quaternion, OPEN)
            return
        pose, gripper = self._chunk.at(self._stamp_ns)
        self._scene.step(pose[:3], pose[3:], gripper)

    def close_accounts(self) -> Accounts:
        """Return the accounts after what may still be under way has come."""
        self._ros.receive_for(1.0)
        inputs = self._ros.inputs
        self.accounts.unused += inputs.forget() + inputs.superseded
        self.accounts.chunks = inputs.received
        self.accounts.refused = inputs.refused
        return self.accounts


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
    parser.add_argument("--real-time", action="store_true", help="do not wait for the policy")
    parser.add_argument(
        "--deadline-s",
        type=float,
        default=20.0,
        help="wall time for the answer to an observation, in lockstep (default: %(default)s)",
    )
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
        scene = Scene(task(args.task), condition(args.condition), RECIPE.image_px)
        ros = RosSide(has_goal(args.task))
        robot = Robot(scene, ros, args)
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
