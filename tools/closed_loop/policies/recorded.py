"""The demonstrations as the baselines learn from them: pictures and numbers, out of the bags."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from chunk_policy import ChunkExamples

from tools.closed_loop.interface import (
    CAMERAS,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    POSE_TOPIC,
    TARGETS_TOPIC,
    image_topic,
    stamp_of,
)
from tools.closed_loop.policies.baselines import shrunk
from vit_perception.recordings.reader import BagReader


def picture_of(message) -> np.ndarray:
    """Return the picture of an rgb8 Image as the baselines take it."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    return shrunk(pixels)


def body_of(pose, joints) -> np.ndarray:
    """Return the hand's position and the gripper's opening of their messages."""
    position = pose.pose.position
    return np.array([position.x, position.y, position.z, joints.position[0]], np.float32)


def load_recorded(bags: Sequence[Path]) -> ChunkExamples:
    """Read all observations of ``bags`` and their chunks."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*CAMERAS, "body")}
    targets: list[np.ndarray] = []
    closed: list[np.ndarray] = []
    quaternion = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    topics = [*(image_topic(name) for name in CAMERAS), POSE_TOPIC, JOINTS_TOPIC]
    topics += [TARGETS_TOPIC, GRIPPER_TOPIC]
    for path in bags:
        moments: dict[int, dict] = {}
        with BagReader(path) as bag:
            for topic, _, message in bag.messages(topics):
                moments.setdefault(stamp_of(message.header), {})[topic] = message
        for _, parts in sorted(moments.items()):
            for name in CAMERAS:
                columns[name].append(picture_of(parts[image_topic(name)]))
            columns["body"].append(body_of(parts[POSE_TOPIC], parts[JOINTS_TOPIC]))
            poses = parts[TARGETS_TOPIC].poses
            targets.append(np.array([[p.position.x, p.position.y, p.position.z] for p in poses]))
            points = parts[GRIPPER_TOPIC].points
            closed.append(np.array([point.positions[0] > 0 for point in points]))
            turned = poses[0].orientation
            quaternion = np.array([turned.x, turned.y, turned.z, turned.w], np.float32)
    inputs = {name: np.stack(values) for name, values in columns.items()}
    return ChunkExamples(
        inputs=inputs,
        moves_m=(np.stack(targets) - inputs["body"][:, None, :3]).astype(np.float32),
        closed=np.stack(closed),
        quaternion=quaternion,
    )
