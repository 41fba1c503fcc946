"""The simulated robot: sends observations of a scene, and carries out the answers."""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import rclpy

from tools.closed_loop.accounts import Accounts
from tools.closed_loop.chunks import Chunk, timing_of_chunks
from tools.closed_loop.interface import (
    CAMERAS,
    CONTROL_PERIOD_NS,
    DROPPED,
    OBSERVE_EVERY,
    OPEN,
)
from tools.closed_loop.simulator.episode import Episode
from tools.closed_loop.simulator.ros_side import Hand, Peers, RosSide

if TYPE_CHECKING:  # it needs robosuite, and this module does not
    from tools.closed_loop.simulator.scene import Scene

# Longer than the encoder's and the policies' longest gap within an episode.
PAUSE_NS = 2_000_000_000
REHEARSALS = 60


class Robot:
    """Runs episodes of one scene. ``film`` is told seed and control step before each step."""

    def __init__(
        self,
        scene: "Scene",
        ros: RosSide,
        args: argparse.Namespace,
        film: Callable[[int, int], None] | None = None,
    ):
        self._scene = scene
        self._ros = ros
        self._args = args
        self._film = film
        self._stamp_ns = PAUSE_NS
        self._chunk: Chunk | None = None
        self._waiting: set[int] = set()  # stamps of observations without a chunk
        silent = ("wrist",) if args.trouble == "wrist silent" else ()
        self._cameras = [name for name in CAMERAS if name not in silent]
        self._hand: Hand | None = None  # at the control step before
        self._drops = np.random.default_rng(0)
        self._timing = timing_of_chunks()
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
            if self._film is not None:
                self._film(seed, episode.steps)
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
        pose, gripper = self._chunk.at(self._timing, self._stamp_ns)
        self._scene.step(pose[:3], pose[3:], gripper)

    def close_accounts(self) -> Accounts:
        """Return the accounts after what may still be under way has come."""
        self._ros.receive_for(1.0)
        inputs = self._ros.inputs
        self.accounts.unused += inputs.forget() + inputs.superseded
        self.accounts.chunks = inputs.received
        self.accounts.refused = inputs.refused
        return self.accounts
