"""A policy that LeRobot has trained on the encoder's features, on live topics.

    python examples/lerobot_policy.py MODEL --data-set FOLDER

MODEL is a folder that lerobot-train has written (checkpoints/last/pretrained_model), FOLDER the
data set of `vit-perception embed --format lerobot` that it was trained on (docs/lerobot.md). Each
observation is answered with a chunk of targets, as all policies here do it (chunk_node.py). The
data set's action has to be a target pose (position and quaternion xyzw) and the gripper's command:

    --action "/arm/target_poses:poses[0]" --action "/gripper/commands:points[0].positions"

Needs an environment with lerobot and rclpy.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chunk_node import TokenChunkNode, spin

from vit_perception.datasets.lerobot.layout import ENVIRONMENT_STATE, STATE
from vit_perception.datasets.lerobot.state import state_of
from vit_perception.datasets.lerobot.writer.write import OURS
from vit_perception.policy.live import ENGINE_FIELDS, LiveDecoder, Observation
from vit_perception.wire.layout import Layout

ACTION_NUMBERS = 8  # position, quaternion, gripper


class LeRobotPolicy:
    """A trained policy with the processors that LeRobot has written beside it."""

    def __init__(self, model: Path, device: str = "cpu"):
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.factory import make_pre_post_processors

        self._policy = ACTPolicy.from_pretrained(model)
        self._policy.to(device).eval()
        given = {"device_processor": {"device": device}}
        self._before, self._after = make_pre_post_processors(
            self._policy.config, pretrained_path=str(model), preprocessor_overrides=given
        )
        self.steps = self._policy.config.chunk_size
        # Of the latest chunk's targets, xyzw.
        self.quaternion = np.array([0.0, 0.0, 0.0, 1.0])

    @torch.inference_mode()
    def chunk(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return a chunk of actions, (steps, n), for inputs by feature, without a batch axis."""
        tensors: dict[str, Any] = {k: torch.from_numpy(np.array(v)) for k, v in inputs.items()}
        return self._after(self._policy.predict_action_chunk(self._before(tensors)))[0].numpy()

    def act(self, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return targets (steps, 3) in m and closed (steps,) bool."""
        actions = self.chunk({k: v for k, v in inputs.items() if k.startswith("observation.")})
        if actions.shape[1] != ACTION_NUMBERS:
            raise SystemExit(
                f"the policy's action has {actions.shape[1]} numbers; accepted: {ACTION_NUMBERS}, "
                "a target pose and the gripper's command"
            )
        quaternion = actions[:, 3:7].mean(axis=0)
        self.quaternion = quaternion / np.linalg.norm(quaternion)
        return actions[:, :3], actions[:, 7] > 0


def inputs_of(observation: Observation) -> dict[str, np.ndarray]:
    """Return the features that the policy was trained on; ``body`` tells that all are there."""
    state = state_of(observation.layout.samples, observation.samples)
    embedding = np.asarray(observation.embedding, np.float32)
    return {ENVIRONMENT_STATE: embedding, STATE: state, "body": state}


class LeRobotNode(TokenChunkNode):
    """Answers what the encoder node sends."""

    def _on_message(self, topic: str, message) -> None:
        observation = self._decoder.add(topic, message)
        if topic == self._decoder.layout_topic:
            self._subscribe()
        elif observation is not None:
            self.answer(observation.stamp_ns, "world", inputs_of(observation))


def layouts_of(data_set: Path) -> tuple[Layout, ...]:
    """Return the layouts of the features that the data set was made of."""
    told = json.loads((data_set / OURS).read_text())
    return tuple(Layout.from_json(json.dumps(layout)) for layout in told["layouts"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the folder pretrained_model of lerobot-train")
    parser.add_argument("--data-set", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--node", default="/vit_encoder", help="the encoder (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--counts", type=Path, help="JSON of what was answered, written at the end")
    args = parser.parse_args()
    policy = LeRobotPolicy(args.model, args.device)
    import rclpy

    rclpy.init()
    decoder = LiveDecoder(
        args.node,
        expected=layouts_of(args.data_set),
        embedding=True,
        may_differ=ENGINE_FIELDS,
    )
    return spin(LeRobotNode(policy, decoder), args.counts)


if __name__ == "__main__":
    raise SystemExit(main())
