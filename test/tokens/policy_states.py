"""A robot whose pose and gripper feed the state of a tiny policy, and that policy's own formula."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from test.checkpoints.policies.policy_folders import STATE_INPUTS, STATISTICS, state_projection
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PolicySettings,
    PoseSettings,
    StateSettings,
)

PARTS = ("arm.rpy", "arm.position", "gripper")
ARM = PoseSettings("arm", "/ee_pose", "base_link", wait_s=1.0)
GRIPPER = StateSettings("gripper", "/joint_states", ("finger",), wait_s=1.0)
POSITION_M = (0.4, -0.1, 0.3)
FINGER_M = 0.03
# A turn of 0.6 rad about z.
QUATERNION_XYZW = (0.0, 0.0, float(np.sin(0.3)), float(np.cos(0.3)))
NUMBERS = np.array([0.0, 0.0, 0.6, *POSITION_M, FINGER_M])


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
