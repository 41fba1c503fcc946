"""A robot whose pose and gripper feed the state of a tiny policy, and that policy's own formula."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from test.checkpoints.policies.policy_folders import (
    STATE_INPUTS,
    STATISTICS,
    state_projection,
    write_pi0,
    write_smolvla,
)
from test.plain_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PolicySettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import Pose, Sample, SampleAtImage

PARTS = ("arm.rpy", "arm.position", "gripper")
ARM = PoseSettings("arm", "/ee_pose", "base_link", wait_s=1.0)
GRIPPER = StateSettings("gripper", "/joint_states", ("finger",), wait_s=1.0)
POSITION_M = (0.4, -0.1, 0.3)
FINGER_M = 0.03
# A turn of 0.6 rad about z.
QUATERNION_XYZW = (0.0, 0.0, float(np.sin(0.3)), float(np.cos(0.3)))
NUMBERS = np.array([0.0, 0.0, 0.6, *POSITION_M, FINGER_M])
STAMP_NS = 7_000_000_000
POSE = Pose(np.array(POSITION_M), np.array(QUATERNION_XYZW), STAMP_NS, "base_link")
THERE = {
    "arm": SampleAtImage(POSE, "interpolated", 0),
    "gripper": SampleAtImage(Sample(np.array([FINGER_M]), STAMP_NS, ""), "interpolated", 0),
}


def settings_of(
    checkpoint: Path, parts: tuple[str, ...] = PARTS, connector: str = "auto", **changes
) -> EncoderSettings:
    """One camera, the arm, the gripper, and the policy's state made of ``parts``."""
    given = {"poses": (ARM,), "states": (GRIPPER,), **changes}
    return EncoderSettings(
        cameras=(CameraSettings("wrist", "/wrist/image"),),
        model=ModelSettings(str(checkpoint), connector=connector),
        engine=EngineSettings("torch", "float32"),
        policy=PolicySettings(parts),
        **given,
    )


def token_of(numbers: np.ndarray, width: int, kind: str = "MEAN_STD") -> np.ndarray:
    """The policy's own: normalised, padded, through its linear layer; (width,)."""
    state = torch.from_numpy(numbers).float()
    first, second = {
        "MEAN_STD": ("mean", "std"),
        "MIN_MAX": ("min", "max"),
        "IDENTITY": ("mean", "std"),
    }[kind]
    low, high = STATISTICS[first], STATISTICS[second]
    wanted = {
        "MEAN_STD": (state - low) / (high + 1e-8),
        "MIN_MAX": 2 * (state - low) / (high - low) - 1,
        "IDENTITY": state,
    }[kind]
    padded = functional.pad(wanted, (0, STATE_INPUTS - len(state)))
    token: np.ndarray = state_projection(width)(padded).detach().numpy()
    return token


@pytest.fixture(scope="module")
def smolvla(tmp_path_factory):
    return write_smolvla(tmp_path_factory.mktemp("smolvla"))


@pytest.fixture(scope="module")
def pi0(tmp_path_factory):
    return write_pi0(tmp_path_factory.mktemp("pi0"))


def result_of(settings: EncoderSettings, samples=THERE):
    """(frame, layout) of one image."""
    pipeline = Pipeline.open(settings)
    try:
        prepared = pipeline.prepare({"wrist": image_message(STAMP_NS)})
        result = pipeline.assemble(prepared, pipeline.encode(prepared), samples)
        return result, pipeline.layout()
    finally:
        pipeline.close()
