"""How wrong a policy's actions were, and how wrong it is to always predict the mean of the
demonstrations.

    python examples/action_error.py features actions.jsonl data/demo/pick_place_demo --pose-topic
    /ee_pose

``features``: the demonstrations that the policy had. ``actions.jsonl``: what `knn_policy.py --log`
wrote while the bag was replayed. The truth is what the arm did in the bag. Prints JSON.
"""

import argparse
import json

import numpy as np
from demonstrations import actions_of, load_demonstrations
from knn_policy import HORIZON_S
from scipy.spatial.transform import Rotation

from vit_perception.recordings.reader import BagReader
from vit_perception.streams.pose_history import pose_of


def path_of(bag_path: str, topic: str) -> tuple[np.ndarray, np.ndarray]:
    """Stamps (m,) in ns and poses (m, 7) of a bag's pose topic."""
    with BagReader(bag_path) as bag:
        poses = [pose_of(message) for _, _, message in bag.messages([topic])]
    return (
        np.array([p.stamp_ns for p in poses]),
        np.stack([np.concatenate([p.position_m, p.quaternion_xyzw]) for p in poses]),
    )


def errors_of(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean distance between where the actions lead, in cm, and mean angle between how they turn, in
    degrees.
    """
    turned = Rotation.from_rotvec(predicted[:, 3:]) * Rotation.from_rotvec(truth[:, 3:]).inv()
    return {
        "translation_cm": 100
        * float(np.linalg.norm(predicted[:, :3] - truth[:, :3], axis=1).mean()),
        "rotation_deg": float(np.degrees(turned.magnitude()).mean()),
    }


def compare(features: str, log: str, bag: str, topic: str, horizon_s: float) -> dict:
    """Errors of the policy and of the mean, on the moments whose horizon lies within an episode of
    the bag.
    """
    with open(log) as file:
        lines = [json.loads(line) for line in file]
    if not lines:
        raise SystemExit(f"{log} has no actions; accepted: the --log of a policy that has acted")
    predicted = np.array([line["action"] for line in lines])
    truth = actions_of(
        *path_of(bag, topic), np.array([line["stamp_ns"] for line in lines]), horizon_s
    )
    known = ~np.isnan(truth).any(axis=1)
    mean = load_demonstrations(features, horizon_s).actions.mean(axis=0)
    policy = errors_of(predicted[known], truth[known])
    baseline = errors_of(np.tile(mean, (known.sum(), 1)), truth[known])
    return {
        "actions": int(known.sum()),
        "horizon_s": horizon_s,
        "policy": policy,
        "predict_the_mean": baseline,
        "ratio": {name: policy[name] / baseline[name] for name in policy},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features")
    parser.add_argument("log")
    parser.add_argument("bag")
    parser.add_argument("--pose-topic", default="/ee_pose")
    parser.add_argument("--horizon-s", type=float, default=HORIZON_S)
    args = parser.parse_args()
    print(
        json.dumps(
            compare(args.features, args.log, args.bag, args.pose_topic, args.horizon_s), indent=1
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
