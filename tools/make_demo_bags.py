#!/usr/bin/env python3
"""Record the two demonstration bags: a simulated Panda arm that picks up a can and places it.

Writes ``pick_place_train/`` and ``pick_place_demo/`` (rosbag2 directories, MCAP) under ``--out``.
Each holds several short episodes of robosuite's ``PickPlaceCan``, one after another in time:

    /agentview/image/compressed  sensor_msgs/msg/CompressedImage   20 Hz  JPEG, 320x240
    /wrist/image/compressed      sensor_msgs/msg/CompressedImage   20 Hz  JPEG, 320x240
    /ee_pose                     geometry_msgs/msg/PoseStamped    100 Hz  read 3 ms off the images
    /task_stage                  std_msgs/msg/String               20 Hz  reach, grasp, carry, place

Stamps are simulated time and log times equal the stamps. No episode of the demo bag shares a seed
with the train bag.

Install, in a virtual environment of its own because robosuite needs numpy 1 (Debian or Ubuntu):

    sudo apt install libosmesa6 libgl1
    pip install robosuite==1.5.2 mujoco==3.8.1 "numpy<2" rosbags==0.11.9 \
        opencv-python-headless==4.11.0.86

Run from the repository root; takes about one minute on one core, no GPU:

    python tools/make_demo_bags.py --out data/demo

The same seeds give the same bags again, byte for byte on one machine; another version of the
software renderer may change the pictures.

Stamps run on from one episode to the next, and the arm jumps back to its start there: a pose that
is interpolated at the first image of an episode mixes two episodes.
"""

import argparse
import os
import shutil
from pathlib import Path

# Read when mujoco is imported: render in software, so that neither a display nor a GPU is needed.
os.environ.setdefault("MUJOCO_GL", "osmesa")

import cv2
import numpy as np
import robosuite
from robosuite import macros
from robosuite.controllers import load_composite_controller_config
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation, Slerp

IMAGE_PERIOD_MS = 50
POSE_PERIOD_MS = 10
# Robots seldom sample cameras and joints at the same instant, so no pose here has an image's stamp.
POSE_OFFSET_MS = 3
# robosuite's default of 2 ms would never land on an offset of 3 ms.
PHYSICS_STEP_MS = 1

IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX = 320, 240
JPEG_QUALITY = 80
CAMERAS = {
    "agentview": "agentview",
    "wrist": "robot0_eye_in_hand",
}  # topic prefix: camera of robosuite

# Name of the bag: (stamp of the first image in seconds, seed of each episode).
# The seeds for training spread the can over its bin and turn the gripper both ways.
BAGS = {
    "pick_place_train": (1000, (3, 6, 9, 12)),
    "pick_place_demo": (2000, (102, 103)),
}

# Stages. Distances in metres.
GRASP_DISTANCE_M = 0.09  # closer to the centre of the can than this, the gripper is grasping
LIFTED_HEIGHT_M = 0.02  # a can this far above where it stood has been lifted
PLACE_DISTANCE_M = 0.10  # a can nearer to its target than this, seen from above, is being placed

# The motion of the arm, in metres and radians.
HOVER_HEIGHT_M = 0.14  # above the can before going down, and above the bin before letting go
LIFT_HEIGHT_M = 0.16  # clears the walls of the bins
RELEASE_HEIGHT_M = 0.01
# The centre of the target bin is at the edge of what the arm reaches: let go nearer to its base.
RELEASE_SHIFT_M = np.array([-0.04, -0.03])
MAX_YAW_RAD = 0.35
# The hand straight down, fingers along the world's y axis, as the controller sees it (grip site).
DOWN = Rotation.from_quat([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
GRIPPER_OPEN, GRIPPER_CLOSED = -1.0, 1.0


def task_stage(gripper_to_can_m, can_lift_m, can_to_target_m):
    """Name what the arm is doing, from the state of the simulator alone.

    gripper_to_can_m: distance from the end effector to the centre of the can.
    can_lift_m: height of the can above where it stood at first.
    can_to_target_m: horizontal distance from the can to where it is to be let go.
    """
    if can_to_target_m < PLACE_DISTANCE_M:
        return "place"
    if can_lift_m > LIFTED_HEIGHT_M:
        return "carry"
    if gripper_to_can_m < GRASP_DISTANCE_M:
        return "grasp"
    return "reach"


def plan(can_m, bin_m, yaw_rad):
    """Return the motion as (position to reach, yaw, gripper, seconds to get there)."""
    up = np.array([0.0, 0.0, 1.0])
    over_bin_m = bin_m + HOVER_HEIGHT_M * up
    return [
        (can_m + HOVER_HEIGHT_M * up, yaw_rad, GRIPPER_OPEN, 0.75),
        (can_m, yaw_rad, GRIPPER_OPEN, 0.45),
        (can_m, yaw_rad, GRIPPER_CLOSED, 0.20),
        (can_m + LIFT_HEIGHT_M * up, yaw_rad, GRIPPER_CLOSED, 0.35),
        (over_bin_m, 0.0, GRIPPER_CLOSED, 1.00),
        (bin_m + RELEASE_HEIGHT_M * up, 0.0, GRIPPER_CLOSED, 0.40),
        (bin_m + RELEASE_HEIGHT_M * up, 0.0, GRIPPER_OPEN, 0.30),
        (over_bin_m, 0.0, GRIPPER_OPEN, 0.30),
    ]


def actions(start_m, start_rotation, segments):
    """Yield one action per image period: smooth moves (minimum jerk) from one point to the next."""
    for goal_m, yaw_rad, gripper, duration_s in segments:
        goal_rotation = Rotation.from_euler("z", yaw_rad) * DOWN
        turn = Slerp([0.0, 1.0], Rotation.concatenate([start_rotation, goal_rotation]))
        steps = round(1000 * duration_s / IMAGE_PERIOD_MS)
        for x in np.arange(1, steps + 1) / steps:
            s = x**3 * (10 - 15 * x + 6 * x**2)
            yield np.concatenate([start_m + s * (goal_m - start_m), turn(s).as_rotvec(), [gripper]])
        start_m, start_rotation = goal_m, goal_rotation


class Simulation:
    """One episode of PickPlaceCan, with the end effector read during the physics steps."""

    def __init__(self, seed):
        """Build the scene; the seed decides where the can stands and how the arm starts."""
        macros.SIMULATION_TIMESTEP = PHYSICS_STEP_MS / 1000
        controller = load_composite_controller_config(robot="Panda")
        # Follow given poses closely, instead of adding small steps to wherever the arm got to.
        controller["body_parts"]["right"].update(
            input_type="absolute", input_ref_frame="world", kp=800
        )
        np.random.seed(seed)
        self.env = robosuite.make(
            "PickPlaceCan",
            robots="Panda",
            controller_configs=controller,
            seed=seed,
            control_freq=1000 / IMAGE_PERIOD_MS,
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=False,
        )
        self.env.reset()
        self.sim = self.env.sim
        # The tiles of the floor would take a third of the bytes of every picture.
        floor = self.sim.model.geom_name2id("floor")
        self.sim.model.geom_matid[floor] = -1
        self.sim.model.geom_rgba[floor] = [0.55, 0.55, 0.53, 1.0]

        self.robot = self.env.robots[0]
        self.site = self.robot.eef_site_id["right"]
        self.can_body = self.env.obj_body_id["Can"]
        self.sim.forward()
        self.first_can_m = self.can_m()
        self.bin_m = self.env.target_bin_placements[self.env.object_id].copy()
        self.bin_m[:2] += RELEASE_SHIFT_M
        self.bin_m[2] = self.first_can_m[2]  # both bins stand at one height

        # robosuite calls _pre_action once per physics step, when positions belong to sim.data.time.
        self.before_physics = self.env._pre_action
        self.env._pre_action = self.on_physics_step
        self.readings = []

    def can_m(self):
        """Return the centre of the can, in the world."""
        return self.sim.data.body_xpos[self.can_body].copy()

    def end_effector(self):
        """Return position (m) and quaternion (xyzw), as robot0_eef_pos and robot0_eef_quat do.

        The position is that of the grip site between the fingers; the orientation is the hand's,
        which the grip site's differs from by a fixed quarter turn about z.
        """
        w, x, y, z = self.sim.data.get_body_xquat(self.robot.robot_model.eef_name["right"])
        return self.sim.data.site_xpos[self.site].copy(), np.array([x, y, z, w])

    def on_physics_step(self, action, policy_step=False):
        """Read the end effector, then let robosuite compute its torques."""
        self.readings.append((self.sim.data.time, *self.end_effector()))
        self.before_physics(action, policy_step)

    def step(self, action):
        """Advance by one image period; return the readings (time in s, position, quaternion)."""
        self.readings = []
        observation = self.env.step(action)[0]
        # robosuite observes before the last integration: its values are those of the last reading.
        assert np.array_equal(observation["robot0_eef_pos"], self.readings[-1][1])
        assert np.array_equal(observation["robot0_eef_quat"], self.readings[-1][2])
        return self.readings

    def image(self, camera):
        """Render a picture (RGB)."""
        picture = self.sim.render(camera_name=camera, width=IMAGE_WIDTH_PX, height=IMAGE_HEIGHT_PX)[
            ::-1
        ]
        if picture.std() < 10:
            raise RuntimeError(f"{camera} rendered an empty picture")
        return picture

    def stage(self):
        """Name the stage that the state is in."""
        can_m = self.can_m()
        return task_stage(
            gripper_to_can_m=np.linalg.norm(self.end_effector()[0] - can_m),
            can_lift_m=can_m[2] - self.first_can_m[2],
            can_to_target_m=np.linalg.norm((self.bin_m - can_m)[:2]),
        )


class Recorder:
    """Writes messages to one bag, in ROS types."""

    def __init__(self, writer):
        """Declare the topics."""
        self.writer = writer
        self.store = get_typestore(Stores.ROS2_JAZZY)
        topics = {
            f"/{name}/image/compressed": "sensor_msgs/msg/CompressedImage" for name in CAMERAS
        }
        topics |= {
            "/ee_pose": "geometry_msgs/msg/PoseStamped",
            "/task_stage": "std_msgs/msg/String",
        }
        self.connections = {
            topic: writer.add_connection(topic, kind, typestore=self.store)
            for topic, kind in topics.items()
        }

    def write(self, topic, stamp_ms, **fields):
        """Write a message whose log time is its stamp."""
        connection = self.connections[topic]
        message = self.store.types[connection.msgtype](**fields)
        data = self.store.serialize_cdr(message, connection.msgtype)
        self.writer.write(connection, stamp_ms * 1_000_000, data)

    def header(self, stamp_ms, frame_id):
        """Return a std_msgs/msg/Header."""
        time = self.store.types["builtin_interfaces/msg/Time"](
            sec=stamp_ms // 1000, nanosec=stamp_ms % 1000 * 1_000_000
        )
        return self.store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)

    def image(self, name, stamp_ms, picture):
        """Write a picture (RGB) as JPEG."""
        done, jpeg = cv2.imencode(
            ".jpg",
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
        )
        assert done
        self.write(
            f"/{name}/image/compressed",
            stamp_ms,
            format="jpeg",
            data=jpeg.ravel(),
            header=self.header(stamp_ms, f"{name}_optical_frame"),
        )

    def pose(self, stamp_ms, position_m, quaternion_xyzw):
        """Write the pose of the end effector."""
        types = self.store.types
        pose = types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](*map(float, position_m)),
            orientation=types["geometry_msgs/msg/Quaternion"](*map(float, quaternion_xyzw)),
        )
        self.write("/ee_pose", stamp_ms, header=self.header(stamp_ms, "world"), pose=pose)


def record_episode(recorder, seed, start_ms):
    """Record one episode from start_ms on; return the stamp at which the next one may start."""
    simulation = Simulation(seed)
    yaw_rad = np.random.default_rng(seed).uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
    segments = plan(simulation.first_can_m, simulation.bin_m, yaw_rad)
    start_m = simulation.end_effector()[0]
    start_rotation = Rotation.from_matrix(
        simulation.sim.data.site_xmat[simulation.site].reshape(3, 3)
    )
    stages = []
    stamp_ms = start_ms
    for action in actions(start_m, start_rotation, segments):
        # After a step mujoco's positions lag its clock by one physics step: bring them up to date.
        simulation.sim.forward()
        for name, camera in CAMERAS.items():
            recorder.image(name, stamp_ms, simulation.image(camera))
        stages.append(simulation.stage())
        recorder.write("/task_stage", stamp_ms, data=stages[-1])
        for time_s, position_m, quaternion_xyzw in simulation.step(action):
            since_ms = round(1000 * time_s) - (stamp_ms - start_ms)
            if since_ms % POSE_PERIOD_MS == POSE_OFFSET_MS:
                recorder.pose(stamp_ms + since_ms, position_m, quaternion_xyzw)
        stamp_ms += IMAGE_PERIOD_MS
    if not simulation.env._check_success():
        raise RuntimeError(f"seed {seed}: the can is not in its bin, so choose another seed")
    simulation.env.close()
    counts = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
    print(f"seed {seed}: yaw {yaw_rad:+.2f} rad,", counts)
    return stamp_ms


def main():
    """Record both bags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder for both bags")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, (start_s, seeds) in BAGS.items():
        path = out / name
        if path.exists():
            shutil.rmtree(path)
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            recorder = Recorder(writer)
            stamp_ms = 1000 * start_s
            for seed in seeds:
                stamp_ms = record_episode(recorder, seed, stamp_ms)
        size_mb = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        print(f"{path}: {len(seeds)} episodes, {stamp_ms / 1000 - start_s:.2f} s, {size_mb:.2f} MB")


if __name__ == "__main__":
    main()
