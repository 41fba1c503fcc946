"""What both k-NN scripts need: actions out of a path of poses, and the demonstrations in a folder
of `embed`.

An action is what the end effector did within the horizon after a moment, (6,): how far it went (m)
and how it turned (rotation vector in rad), both in the axes of the poses' own frame.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vit_perception.policy.dataset import FeatureDataset

# No arm is as fast: where it seems so, the scene was set up anew between two samples.
MAX_SPEED_M_S = 5.0


def episode_starts(stamps_ns: np.ndarray, positions_m: np.ndarray) -> np.ndarray:
    """Indices at which a new episode begins: 0, and wherever the arm jumps or time goes back."""
    steps_s = np.diff(stamps_ns) * 1e-9
    leaps_m = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    return np.flatnonzero(
        np.concatenate([[True], (steps_s <= 0) | (leaps_m > MAX_SPEED_M_S * steps_s)])
    )


def actions_of(
    path_ns: np.ndarray, poses: np.ndarray, stamps_ns: np.ndarray, horizon_s: float
) -> np.ndarray:
    """The actions (n, 6) at ``stamps_ns`` (n,); NaN where the episode ends within the horizon.

    ``poses`` (m, 7): position in m, quaternion xyzw, at ``path_ns`` (m,) ns.
    """
    horizon_ns, actions = round(horizon_s * 1e9), np.full((len(stamps_ns), 6), np.nan)
    starts = episode_starts(path_ns, poses[:, :3])
    for start, stop in zip(starts, [*starts[1:], len(path_ns)]):
        times_ns = path_ns[start:stop]
        inside = (stamps_ns >= times_ns[0]) & (stamps_ns + horizon_ns <= times_ns[-1])
        if stop - start < 2 or not inside.any():
            continue
        # Relative to the first sample: nanoseconds since 1970 lose digits as float64.
        now_s, path_s = (stamps_ns[inside] - times_ns[0]) * 1e-9, (times_ns - times_ns[0]) * 1e-9
        later_s = np.minimum(now_s + horizon_s, path_s[-1])
        for axis in range(3):
            at = poses[start:stop, axis]
            actions[inside, axis] = np.interp(later_s, path_s, at) - np.interp(now_s, path_s, at)
        turns = Slerp(path_s, Rotation.from_quat(poses[start:stop, 3:]))
        actions[inside, 3:] = (turns(later_s) * turns(now_s).inv()).as_rotvec()
    return actions


def unit_blocks(embedding: np.ndarray, width: int) -> np.ndarray:
    """``embedding`` (..., blocks · width) with each block (a camera's CLS token, a pose token) made
    unit length, so that none of them rules the distance.
    """
    blocks = embedding.astype(np.float64).reshape(*embedding.shape[:-1], -1, width)
    lengths = np.linalg.norm(blocks, axis=-1, keepdims=True)
    return (blocks / np.where(lengths > 0, lengths, 1)).reshape(embedding.shape)


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """``features`` (n, L), ``actions`` (n, 6), ``episodes`` (n,) numbers; ``layouts``: what the
    features are.
    """

    features: np.ndarray
    actions: np.ndarray
    episodes: np.ndarray
    layouts: tuple


def load_demonstrations(folder: str, horizon_s: float) -> Demonstrations:
    """Every frame of `vit-perception embed --features embedding` that has its horizon before it."""
    data = FeatureDataset(folder)
    if not data.arms or "embedding" not in data.files.columns:
        raise SystemExit(
            f"{folder} has no embeddings with a pose; make it with: vit-perception embed BAG "
            f"--out {folder} --features embedding"
        )
    items = [data[i] for i in range(len(data))]
    poses = np.stack([item["poses"][data.arms[0]][0].numpy() for item in items])
    known = ~np.isnan(poses).any(axis=1)
    items, poses = [item for item, k in zip(items, known) if k], poses[known]
    stamps_ns = np.array([int(item["stamps_ns"][0]) for item in items])
    actions = actions_of(stamps_ns, poses, stamps_ns, horizon_s)
    episodes = (
        np.searchsorted(
            episode_starts(stamps_ns, poses[:, :3]), np.arange(len(items)), side="right"
        )
        - 1
    )
    features = unit_blocks(
        np.stack([item["embedding"][0].numpy() for item in items]), data.layouts[0].width
    )
    usable = ~np.isnan(actions).any(axis=1)
    return Demonstrations(features[usable], actions[usable], episodes[usable], data.layouts)
