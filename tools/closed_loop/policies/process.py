"""A trained policy as a process: ``python -m tools.closed_loop.policies.process POLICY``.

Policies of tokens answer the encoder node's observations, baselines those of the simulator itself.
"""

import argparse
import sys
from collections import OrderedDict
from pathlib import Path

from chunk_node import ChunkNode, run_on_tokens, spin
from chunk_policy import ChunkPolicy, load
from spatial_policy import SpatialPolicy
from transformer_chunk_policy import TransformerChunkPolicy

from tools.closed_loop.forms import MAY_DIFFER
from tools.closed_loop.interface import (
    CAMERAS,
    FRAME_ID,
    GOAL_TOPIC,
    JOINTS_TOPIC,
    POSE_TOPIC,
    image_topic,
    stamp_of,
)
from tools.closed_loop.policies.baselines import PixelPolicy, PosePolicy
from tools.closed_loop.policies.on_tokens import ClsPolicy, NeighbourPolicy, NoPosePolicy
from tools.closed_loop.policies.recorded import body_of, picture_of
from vit_perception.policy.live import ENGINE_FIELDS

KINDS = {
    "spatial": SpatialPolicy,
    "no pose": NoPosePolicy,
    "transformer": TransformerChunkPolicy,
    "cls": ClsPolicy,
    "neighbours": NeighbourPolicy,
    "pose": PosePolicy,
    "pixels": PixelPolicy,
}
# Numbers of ``body`` in a task without a goal: the hand's position and the gripper.
BARE_BODY = 4
# Stamps whose messages have not all come.
MOST_PENDING = 20


class BareChunkNode(ChunkNode):
    """Observations are what the simulator sends, matched by stamp."""

    def __init__(self, policy: ChunkPolicy):
        super().__init__(policy, "chunk_policy", sim_time=True)
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import Image, JointState

        self._cameras = [name for name in CAMERAS if name in policy.takes]
        self._pending: OrderedDict[int, dict] = OrderedDict()
        self._topics = {POSE_TOPIC: PoseStamped, JOINTS_TOPIC: JointState}
        if len(policy.body_mean) > BARE_BODY:
            self._topics[GOAL_TOPIC] = JointState
        self._topics |= {image_topic(name): Image for name in self._cameras}
        for topic, kind in self._topics.items():
            self.node.create_subscription(kind, topic, lambda m, t=topic: self._add(t, m), 10)
        self.look_until_ready()

    def offered(self) -> bool:
        """Return whether every topic has its publisher."""
        return all(self.node.count_publishers(topic) for topic in self._topics)

    def _add(self, topic: str, message) -> None:
        stamp_ns = stamp_of(message.header)
        parts = self._pending.setdefault(stamp_ns, {})
        parts[topic] = message
        while len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
        if len(parts) < len(self._topics):
            return
        del self._pending[stamp_ns]
        inputs = {name: picture_of(parts[image_topic(name)]) for name in self._cameras}
        goal = parts.get(GOAL_TOPIC)
        inputs["body"] = body_of(parts[POSE_TOPIC], parts[JOINTS_TOPIC], goal)
        self.answer(stamp_ns, FRAME_ID, inputs)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.closed_loop.policies.process")
    parser.add_argument("policy", type=Path)
    parser.add_argument("--node", default="/vit_encoder", help="(default: %(default)s)")
    parser.add_argument("--counts", type=Path, help="JSON of what was answered, written at the end")
    args = parser.parse_args(arguments)
    policy, layouts = load(args.policy, KINDS)
    if layouts:  # those of tokens
        may_differ = (*ENGINE_FIELDS, *MAY_DIFFER) if policy.expand else ENGINE_FIELDS
        return run_on_tokens(policy, layouts, args.node, args.counts, may_differ, sim_time=True)
    import rclpy

    rclpy.init()
    return spin(BareChunkNode(policy), args.counts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
