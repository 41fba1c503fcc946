"""Imitation by nearest neighbours: do what was done when things looked like now.

After Pari et al., "The Surprising Effectiveness of Representation Learning for Visual Imitation"
(VINN, 2021): no training, only the encoder's features of demonstrations and the actions that
followed them.

    vit-perception embed data/demo/pick_place_train --out features --features embedding \
        --params config/demo.yaml
    python examples/knn_policy.py features

listens to the encoder's ~/embedding, and publishes the pose that the end effector should have
`--horizon-s` later on /knn_policy/target_pose, with the image's stamp. `--log FILE` also writes
each action as a line of JSON.
"""

import argparse
import json
import signal
from pathlib import Path

import numpy as np
from demonstrations import Demonstrations, load_demonstrations, unit_blocks
from scipy.spatial.transform import Rotation

from vit_perception.files.atomic import fresh_file
from vit_perception.policy.live import LayoutMismatch, LiveDecoder, Observation

HORIZON_S = 0.5
CANDIDATES = (1, 3, 5, 10, 20)
# Weights fall by this many e-folds at the mean distance of the neighbours.
SHARPNESS = 3.0


class KnnPolicy:
    """``k`` neighbours by Euclidean distance, weighted by exp(-SHARPNESS · distance / their mean
    distance).
    """

    def __init__(self, features: np.ndarray, actions: np.ndarray, k: int):
        self.features, self.actions, self.k = features, actions, min(k, len(features))

    def act(self, feature: np.ndarray) -> np.ndarray:
        """The action (6,) for a feature (L,)."""
        distances = np.linalg.norm(self.features - feature, axis=1)
        nearest = np.argpartition(distances, self.k - 1)[: self.k]
        weights = np.exp(-SHARPNESS * distances[nearest] / max(distances[nearest].mean(), 1e-12))
        return weights @ self.actions[nearest] / weights.sum()


def choose_k(demos: Demonstrations) -> int:
    """The k with the least error (m) when each demonstration in turn is left out and predicted by
    the others.
    """
    if len(np.unique(demos.episodes)) < 2:
        return 5
    errors_m = {}
    for k in CANDIDATES:
        errors_m[k] = np.mean(
            [
                np.linalg.norm(
                    KnnPolicy(
                        demos.features[demos.episodes != e], demos.actions[demos.episodes != e], k
                    ).act(feature)[:3]
                    - action[:3]
                )
                for e, feature, action in zip(demos.episodes, demos.features, demos.actions)
            ]
        )
    print(
        "left-out error by k: "
        + ", ".join(f"{k}: {100 * error:.2f} cm" for k, error in errors_m.items())
    )
    return min(errors_m, key=errors_m.get)


class KnnNode:
    """Subscribes to what the decoder asks for; one action for each observation."""

    def __init__(self, policy: KnnPolicy, decoder: LiveDecoder, log: Path | None):
        import rclpy
        from geometry_msgs.msg import PoseStamped

        self.node = rclpy.create_node("knn_policy")
        self._policy, self._decoder = policy, decoder
        self._log = fresh_file(log) if log else None
        self._publisher = self.node.create_publisher(PoseStamped, "~/target_pose", 1)
        self._subscribed: set[str] = set()
        self._frame_id = ""
        self.acted = 0
        self._subscribe()

    def _subscribe(self) -> None:
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String

        kinds = {
            "sensor_msgs/msg/Image": Image,
            "geometry_msgs/msg/PoseStamped": PoseStamped,
            "std_msgs/msg/String": String,
            "sensor_msgs/msg/JointState": JointState,
        }
        for topic, kind in self._decoder.topics.items():
            if topic not in self._subscribed:
                self._subscribed.add(topic)
                latched = topic in self._decoder.latched
                qos = QoSProfile(
                    depth=10,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL
                    if latched
                    else DurabilityPolicy.VOLATILE,
                )
                self.node.create_subscription(
                    kinds[kind], topic, lambda m, t=topic: self._on_message(t, m), qos
                )

    def _on_message(self, topic: str, message) -> None:
        observation = self._decoder.add(topic, message)
        if topic.endswith("/pose_at_image"):
            self._frame_id = message.header.frame_id
        if topic == self._decoder.layout_topic:
            self._subscribe()
        elif observation is not None and (pose := self._pose(observation)) is not None:
            feature = unit_blocks(observation.embedding, observation.layout.width)
            self._send(observation.stamp_ns, pose, self._policy.act(feature))

    @staticmethod
    def _pose(observation: Observation) -> np.ndarray | None:
        """The first arm's pose; without it there is nothing to move from."""
        pose = next(iter(observation.poses.values()), None)
        return None if pose is None or np.isnan(pose).any() else pose

    def _send(self, stamp_ns: int, pose: np.ndarray, action: np.ndarray) -> None:
        from geometry_msgs.msg import PoseStamped

        message = PoseStamped()
        message.header.frame_id = self._frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        position, orientation = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = map(float, pose[:3] + action[:3])
        turned = Rotation.from_rotvec(action[3:]) * Rotation.from_quat(pose[3:])
        orientation.x, orientation.y, orientation.z, orientation.w = map(float, turned.as_quat())
        self._publisher.publish(message)
        self.acted += 1
        if self._log:
            print(
                json.dumps({"stamp_ns": stamp_ns, "action": action.tolist()}),
                file=self._log,
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", help="folder of `vit-perception embed --features embedding`")
    parser.add_argument(
        "--node", default="/vit_encoder", help="the encoder's full name (default: %(default)s)"
    )
    parser.add_argument("--horizon-s", type=float, default=HORIZON_S, help="(default: %(default)s)")
    parser.add_argument("--log", type=Path, help="file for one line of JSON an action")
    args = parser.parse_args()
    demos = load_demonstrations(args.features, args.horizon_s)
    k = choose_k(demos)
    print(
        f"{len(demos.features)} moments of {len(np.unique(demos.episodes))} demonstrations, k = {k}"
    )

    import rclpy
    from rclpy.executors import ExternalShutdownException

    rclpy.init()
    runner = KnnNode(
        KnnPolicy(demos.features, demos.actions, k),
        LiveDecoder(args.node, expected=demos.layouts, embedding=True),
        args.log,
    )
    print("listening", flush=True)
    failed = False
    try:
        rclpy.spin(runner.node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except LayoutMismatch as error:
        # Neighbours among other features mean nothing: better no action than a wrong one.
        print(f"{args.node} runs with other features than {args.features}: {error}", flush=True)
        failed = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"{runner.acted} actions")
    rclpy.try_shutdown()
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
