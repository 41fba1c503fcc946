"""Record demonstrations of the scripted expert: a bag (MCAP) for each episode.

    python -m tools.closed_loop.simulator.record --task lift --count 60 --out FOLDER

A bag has the topics of ``interface``: what the loop's simulator sends, and the chunk of targets
that a policy is to answer with, which are those that the expert gave from that stamp on. What has
been recorded is kept; the same command goes on after a break.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from tools.closed_loop.interface import (
    CONTROL_PERIOD_NS,
    FRAME_ID,
    GOAL_TOPIC,
    GRIPPER_JOINT,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    OBJECTS,
    POSE_TOPIC,
    STEPS,
    TARGETS_TOPIC,
    TASKS,
    has_goal,
    image_topic,
    stamp_parts,
)
from tools.closed_loop.recipe import FIRST_DEMONSTRATION_SEED, FIRST_TEST_SEED, RECIPE, claim
from tools.closed_loop.simulator.conditions import condition
from tools.closed_loop.simulator.episode import Episode
from tools.closed_loop.simulator.expert import DOWN_XYZW, Expert
from tools.closed_loop.simulator.scene import Scene
from tools.closed_loop.simulator.tasks import task

# Another seed is tried where the expert fails; where it fails more often, something is wrong.
MOST_FAILURES = 0.5
FIRST_STAMP_NS = 1_000_000_000


class Messages:
    """Messages of the topics as CDR bytes, without ROS."""

    def __init__(self, writer: Writer, goal: bool):
        self._goal = goal
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._writer = writer
        self._connections = {}

    def make(self, type_name: str, **fields):
        """Return a message of ``package/Name``."""
        package, name = type_name.split("/")
        return self._store.types[f"{package}/msg/{name}"](**fields)

    def header(self, stamp_ns: int, frame_id: str = FRAME_ID):
        """Return a std_msgs/Header."""
        stamp = self.make("builtin_interfaces/Time", **stamp_parts(stamp_ns))
        return self.make("std_msgs/Header", stamp=stamp, frame_id=frame_id)

    def pose(self, position_m, quaternion_xyzw):
        """Return a geometry_msgs/Pose."""
        position = self.make("geometry_msgs/Point", **dict(zip("xyz", map(float, position_m))))
        turned = dict(zip("xyzw", map(float, quaternion_xyzw)))
        return self.make(
            "geometry_msgs/Pose",
            position=position,
            orientation=self.make("geometry_msgs/Quaternion", **turned),
        )

    def write(self, topic: str, stamp_ns: int, message) -> None:
        """Append a message, recorded at its stamp."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store
            )
        data = self._store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], stamp_ns, data)

    def joints(self, topic: str, stamp_ns: int, names, positions) -> None:
        """Write a sensor_msgs/JointState."""
        message = self.make(
            "sensor_msgs/JointState",
            header=self.header(stamp_ns),
            name=list(names),
            position=np.array(positions, float),
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )
        self.write(topic, stamp_ns, message)

    def observation(self, stamp_ns: int, scene: Scene) -> None:
        """Write what the simulator sends at ``stamp_ns``."""
        self.write(
            POSE_TOPIC,
            stamp_ns,
            self.make(
                "geometry_msgs/PoseStamped",
                header=self.header(stamp_ns),
                pose=self.pose(*scene.hand()),
            ),
        )
        self.joints(JOINTS_TOPIC, stamp_ns, [GRIPPER_JOINT], [scene.gripper_m()])
        if self._goal:
            self.joints(GOAL_TOPIC, stamp_ns, OBJECTS, scene.goal_numbers())
        for camera, image in scene.images().items():
            height, width = image.shape[:2]
            message = self.make(
                "sensor_msgs/Image",
                header=self.header(stamp_ns, f"{camera}_optical_frame"),
                height=height,
                width=width,
                encoding="rgb8",
                is_bigendian=0,
                step=3 * width,
                data=image.ravel(),
            )
            self.write(image_topic(camera), stamp_ns, message)

    def chunk(self, stamp_ns: int, targets_m: np.ndarray, grippers: np.ndarray) -> None:
        """Write the answer to the observation at ``stamp_ns``: (STEPS, 3) and (STEPS,)."""
        poses = [self.pose(target_m, DOWN_XYZW) for target_m in targets_m]
        header = self.header(stamp_ns)
        self.write(
            TARGETS_TOPIC,
            stamp_ns,
            self.make("geometry_msgs/PoseArray", header=header, poses=poses),
        )
        points = [
            self.make(
                "trajectory_msgs/JointTrajectoryPoint",
                positions=np.array([gripper]),
                velocities=np.zeros(0),
                accelerations=np.zeros(0),
                effort=np.zeros(0),
                time_from_start=self.make(
                    "builtin_interfaces/Duration", **stamp_parts(step * CONTROL_PERIOD_NS)
                ),
            )
            for step, gripper in enumerate(grippers)
        ]
        message = self.make(
            "trajectory_msgs/JointTrajectory",
            header=header,
            joint_names=[GRIPPER_JOINT],
            points=points,
        )
        self.write(GRIPPER_TOPIC, stamp_ns, message)


class Pushes:
    """Where the hand is pushed to beside its target, (3,) in m at each control step."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng([seed, 2])
        self._push_m = np.zeros(3)

    def next(self) -> np.ndarray:
        """Return the push of the next control step."""
        if self._push_m.any():
            if self._random.random() < RECIPE.push_ends:
                self._push_m = np.zeros(3)
        elif self._random.random() < RECIPE.push_begins:
            way = self._random.normal(size=3)
            self._push_m = RECIPE.push_m * way / np.linalg.norm(way)
        return self._push_m


def record(scene: Scene, name: str, seed: int, path: Path) -> Episode:
    """Record one episode of the task ``name`` to ``path``; it is whole when this returns."""
    scene.reset(seed)
    expert = Expert(scene.task.places)
    pushes = Pushes(seed)
    episode = Episode(scene, seed)
    targets_m: list[np.ndarray] = []
    grippers: list[float] = []
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        messages = Messages(writer, has_goal(name))
        while not episode.over:
            if episode.steps % scene.task.record_every == 0:
                messages.observation(FIRST_STAMP_NS + episode.steps * CONTROL_PERIOD_NS, scene)
            target_m, gripper = expert.act(scene)
            targets_m.append(target_m)
            grippers.append(gripper)
            # The fingers are not pushed while they close.
            push_m = np.zeros(3) if expert.stage in ("close", "open") else pushes.next()
            scene.step(target_m + push_m, DOWN_XYZW, gripper)
            episode.watch()
        for begin in range(0, episode.steps, scene.task.record_every):
            # Beyond the end, the last target holds.
            steps = np.minimum(np.arange(begin, begin + STEPS), episode.steps - 1)
            messages.chunk(
                FIRST_STAMP_NS + begin * CONTROL_PERIOD_NS,
                np.array(targets_m)[steps],
                np.array(grippers)[steps],
            )
    return episode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.closed_loop.simulator.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--count", type=int, required=True, help="successful demonstrations")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    claim(args.out)
    scene = Scene(task(args.task), condition("as demonstrated"), RECIPE.image_px)
    begun_s = time.monotonic()
    done = failed = made = 0
    seed = FIRST_DEMONSTRATION_SEED
    while done < args.count:
        assert seed < FIRST_TEST_SEED
        path, failure = args.out / f"seed_{seed:06d}", args.out / f"seed_{seed:06d}.failed"
        if not path.exists() and not failure.exists():
            part = args.out / "part"
            shutil.rmtree(part, ignore_errors=True)
            episode = record(scene, args.task, seed, part)
            made += 1
            if episode.success:
                part.rename(path)
            else:
                shutil.rmtree(part)
                failure.write_text(f"{episode.result()}\n")
            left_s = (time.monotonic() - begun_s) / made * (args.count - done - 1)
            print(f"{args.task}: {episode.result()}; {left_s:.0f} s left", flush=True)
        done += path.exists()
        failed += failure.exists()
        seed += 1
        if failed > 4 and failed > MOST_FAILURES * seed:
            print(f"{args.task}: the expert failed {failed} of {seed} times", flush=True)
            return 1
    print(f"{args.task}: {done} demonstrations, {failed} attempts failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
