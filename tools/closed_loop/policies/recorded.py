"""The demonstrations as the baselines learn from them: pictures and numbers, out of the bags.

With the features of `embed --augment` the pictures are those that its tokens were made of.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from chunk_policy import ChunkExamples

from tools.closed_loop.interface import (
    CAMERAS,
    GOAL_TOPIC,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    POSE_TOPIC,
    TARGETS_TOPIC,
    image_topic,
    stamp_of,
)
from tools.closed_loop.policies.baselines import shrunk
from vit_perception.files.errors import OperationFailed
from vit_perception.image.augment import applied
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import REPEAT
from vit_perception.recordings.reader import BagReader


def pixels_of(message) -> np.ndarray:
    """Return the pixels (H, W, 3) of an rgb8 Image."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def picture_of(message) -> np.ndarray:
    """Return the picture of an rgb8 Image as the baselines take it."""
    return shrunk(pixels_of(message))


def body_of(pose, joints, goal=None) -> np.ndarray:
    """Return the hand's position, the gripper's opening and the goal of their messages."""
    position = pose.pose.position
    named = [] if goal is None else list(goal.position)
    body = [position.x, position.y, position.z, joints.position[0], *named]
    return np.array(body, np.float32)


def load_augmented(bags: Sequence[Path], features: Path) -> ChunkExamples:
    """Read ``bags`` as often as `embed --augment` has, with the pictures that it has encoded.

    Its first repeat is the bags as they are.

    Raises:
        OperationFailed: the features are not those of the bags.
    """
    names = tuple(f"{name}.{REPEAT}" for name in CAMERAS)
    data = FeatureDataset(features, columns=(REPEAT, *names))
    rows = [data.files.row(index, (REPEAT, *names)) for index in range(len(data))]
    repeats = 1 + max(int(row[REPEAT]) for row in rows)
    once = load_recorded(bags)
    moments = len(once.moves_m)
    if [int(row[REPEAT]) for row in rows] != list(np.repeat(np.arange(repeats), moments)):
        raise OperationFailed(
            f"{features} has {len(rows)} rows; accepted: {repeats} times the {moments} of the bags"
        )
    parts = [once]
    for begin in range(moments, len(rows), moments):
        part = rows[begin : begin + moments]
        changes = {camera: [row[name] for row in part] for camera, name in zip(CAMERAS, names)}
        parts.append(load_recorded(bags, changes))
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in once.inputs}
    return ChunkExamples(
        inputs=inputs,
        moves_m=np.concatenate([part.moves_m for part in parts]),
        closed=np.concatenate([part.closed for part in parts]),
        quaternion=once.quaternion,
    )


def load_recorded(
    bags: Sequence[Path], changes: dict[str, list[np.ndarray]] | None = None
) -> ChunkExamples:
    """Read all observations of ``bags`` and their chunks.

    ``changes``: for each camera the numbers that the picture of each moment is changed with.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*CAMERAS, "body")}
    targets: list[np.ndarray] = []
    closed: list[np.ndarray] = []
    quaternion = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    topics = [*(image_topic(name) for name in CAMERAS), POSE_TOPIC, JOINTS_TOPIC]
    topics += [TARGETS_TOPIC, GRIPPER_TOPIC]
    for path in bags:
        moments: dict[int, dict] = {}
        with BagReader(path) as bag:
            goal = [GOAL_TOPIC] if GOAL_TOPIC in bag.topics else []
            for topic, _, message in bag.messages([*topics, *goal]):
                moments.setdefault(stamp_of(message.header), {})[topic] = message
        for _, parts in sorted(moments.items()):
            for name in CAMERAS:
                pixels = pixels_of(parts[image_topic(name)])
                if changes is not None:
                    pixels = applied(pixels, changes[name][len(targets)])
                columns[name].append(shrunk(pixels))
            named = parts.get(GOAL_TOPIC)
            columns["body"].append(body_of(parts[POSE_TOPIC], parts[JOINTS_TOPIC], named))
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
