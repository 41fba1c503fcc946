"""Robot and policy over real DDS, without the simulator's packages: a point that flies to where it
is told stands for MuJoCo.
"""

import json
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from test.waiting import HANG_S
from tools.closed_loop import interface, policies
from tools.closed_loop.policies.baselines import PixelPolicy, PosePolicy
from tools.closed_loop.work import ROOT
from vit_perception.cli.processes import Child

assert policies.__doc__
from chunk_policy import save  # noqa: E402

STEPS = 12
ARGUMENTS = {"body_count": 4, "steps": interface.STEPS}


class PointScene:
    """A hand without inertia, and an object that nobody moves."""

    def __init__(self):
        self.task = SimpleNamespace(longest_steps=STEPS, done=lambda scene: False)
        self.first_m = self.object_m()
        self.goal = 0
        self.targets_m: list[np.ndarray] = []
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._hand_m = np.array([0.0, 0.0, 1.0 + seed])

    def hand(self):
        return self._hand_m.copy(), np.array([0.0, 0.0, 0.0, 1.0])

    def gripper_m(self) -> float:
        return 0.08

    def object_m(self) -> np.ndarray:
        return np.array([9.0, 9.0, 9.0])

    def grasped(self) -> bool:
        return False

    def image(self, name: str) -> np.ndarray:
        return np.full((168, 168, 3), 100, np.uint8)

    def step(self, target_m, quaternion, gripper) -> None:
        self.targets_m.append(target_m)
        self._hand_m = np.array(target_m, float)


def run_loop(tmp_path, policy, kind: str, trouble: str):
    """Run two episodes; return scene, results, accounts and what the policy counted."""
    import rclpy

    from tools.closed_loop.simulator.robot import Robot
    from tools.closed_loop.simulator.ros_side import RosSide

    path, counts = tmp_path / "policy.safetensors", tmp_path / "counts.json"
    save(policy, path, kind, ARGUMENTS)
    child = Child.module(
        "tools.closed_loop.policies.process",
        str(path),
        "--counts",
        str(counts),
        log=tmp_path / "policy.log",
        environment={"PYTHONPATH": str(ROOT)},
    )
    rclpy.init()
    try:
        scene, ros = PointScene(), RosSide(goal=False)
        args = Namespace(trouble=trouble, real_time=False, deadline_s=HANG_S)
        robot = Robot(scene, ros, args)
        ros.wait_for_peers(HANG_S)
        robot.rehearse()
        results = [robot.run(seed) for seed in (0, 1)]
        accounts = robot.close_accounts()
    finally:
        child.stop()
        rclpy.try_shutdown()
    return scene, results, accounts, json.loads(counts.read_text())


@pytest.fixture
def rising() -> PosePolicy:
    """A policy that always says: 1 cm up at each step."""
    policy = PosePolicy(**ARGUMENTS).eval()
    with torch.no_grad():
        policy.head[-1].weight.zero_()
        policy.head[-1].bias.zero_()
        moves = policy.head[-1].bias.view(interface.STEPS, 4)
        moves[:, 2] = 0.01 * torch.arange(1, interface.STEPS + 1)
    return policy


def test_every_step_carries_out_the_action_that_is_due(rising, tmp_path):
    scene, results, accounts, counts = run_loop(tmp_path, rising, "pose", "none")
    assert [result["observations"] for result in results] == [STEPS // 2] * 2
    assert accounts.wrong() == "" and accounts.missed == accounts.dropped == 0
    assert accounts.refused == {} and counts["answered"] == accounts.chunks
    # Simulated time stands still until the answer is there.
    assert counts["inference_delay"] == 0
    # Of each chunk the first two steps: 1 cm, then 2 cm above where the hand was.
    heights_m = [target[2] for target in scene.targets_m]
    wanted_m = [1 + seed + 0.01 * k for seed in (0, 1) for k in range(1, STEPS + 1)]
    np.testing.assert_allclose(heights_m, wanted_m, atol=1e-5)


def test_nobody_waits_for_the_answer_to_dropped_images(tmp_path):
    torch.manual_seed(0)
    policy = PixelPolicy(**ARGUMENTS).eval()
    _, results, accounts, counts = run_loop(tmp_path, policy, "pixels", "frames dropped")
    assert accounts.dropped > 0 and accounts.missed == 0 and accounts.wrong() == ""
    assert accounts.observations + accounts.dropped == STEPS
    assert sum(result["dropped"] for result in results) == accounts.dropped
    assert counts["answered"] == accounts.chunks


def test_half_as_often_carries_out_four_steps_of_a_chunk(rising, tmp_path):
    scene, results, accounts, _ = run_loop(tmp_path, rising, "pose", "half as often")
    assert [result["observations"] for result in results] == [STEPS // 4] * 2
    assert accounts.wrong() == ""
    rises_m = np.diff([target[2] for target in scene.targets_m[:STEPS]])
    np.testing.assert_allclose(rises_m, 0.01, atol=1e-5)


def test_a_late_pose_keeps_its_own_stamp():
    from tools.closed_loop.simulator.robot import Robot

    sent = []
    ros = SimpleNamespace(send_observation=lambda *each: sent.append(each))
    args = Namespace(trouble="pose late", real_time=False, deadline_s=1.0)
    Robot(PointScene(), ros, args)._send(2_000_000_000, [])
    ((stamp_ns, _, hand, cameras),) = sent
    assert stamp_ns - hand.stamp_ns == interface.CONTROL_PERIOD_NS and cameras == []
