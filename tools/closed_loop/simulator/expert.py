"""The scripted expert: knows where the object is, and says at each control step where the hand
should go.
"""

import numpy as np

from tools.closed_loop.interface import CLOSED, OPEN
from tools.closed_loop.simulator.scene import Scene

# The hand straight down, fingers along the world's y axis; xyzw.
DOWN_XYZW = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
HOVER_M = 0.12
# While the hand is this far beside the object it does not go down; per m further, this much higher.
BESIDE_M = 0.01
RISE = 3.0
LIFT_M = 0.15
# Over the bin. Its own centre is out of reach with the hand straight down.
BIN_M = np.array([0.165, 0.365, 1.10])
RELEASE_HEIGHT_M = 0.94
OPENING_STEPS = 4
LOST_M = 0.06
# A grasp that is not one after so many steps is tried again.
CLOSING_STEPS = 8


class Expert:
    """One episode's stages: reach, close, lift, carry, lower, open, leave."""

    def __init__(self, places: bool):
        self._places = places
        self.stage = "reach"
        self._steps = 0  # in this stage

    def act(self, scene: Scene) -> tuple[np.ndarray, float]:
        """Return the target (3,) in m and the gripper's command, for the state as it is now."""
        hand_m, object_m = scene.hand()[0], scene.grip_m()
        before = self.stage
        self.stage = self._next(scene, hand_m, object_m)
        self._steps = self._steps + 1 if self.stage == before else 0
        return self._target(hand_m, object_m), OPEN if self._opens() else CLOSED

    def _opens(self) -> bool:
        return self.stage in ("reach", "open", "leave")

    def _next(self, scene: Scene, hand_m: np.ndarray, object_m: np.ndarray) -> str:
        beside_bin_m = np.linalg.norm((hand_m - BIN_M)[:2])
        holding = self.stage in ("lift", "carry", "lower")
        if holding and np.linalg.norm(hand_m - object_m) > LOST_M:
            return "reach"
        near = np.linalg.norm(hand_m - object_m) < scene.task.close_enough_m
        if self.stage == "reach" and near:
            return "close"
        if self.stage == "close" and scene.grasped() and self._steps >= 1:
            return "lift"
        if self.stage == "close" and self._steps >= CLOSING_STEPS:
            return "reach"
        if self.stage == "lift" and self._places and hand_m[2] > BIN_M[2] - 0.05:
            return "carry"
        if self.stage == "carry" and beside_bin_m < 0.02:
            return "lower"
        if self.stage == "lower":
            if beside_bin_m > 0.06:
                return "carry"
            if hand_m[2] < RELEASE_HEIGHT_M + 0.01:
                return "open"
        if self.stage == "open" and self._steps >= OPENING_STEPS:
            return "leave"
        return self.stage

    def _target(self, hand_m: np.ndarray, object_m: np.ndarray) -> np.ndarray:
        if self.stage == "reach":
            beside_m = np.linalg.norm((hand_m - object_m)[:2])
            above_m = float(np.clip(RISE * (beside_m - BESIDE_M), 0.0, HOVER_M))
            return object_m + np.array([0.0, 0.0, above_m])
        if self.stage == "close":
            return object_m
        if self.stage == "lift":
            height_m = BIN_M[2] if self._places else hand_m[2] + LIFT_M
            return np.array([hand_m[0], hand_m[1], height_m])
        if self.stage == "lower" or self.stage == "open":
            return np.array([BIN_M[0], BIN_M[1], RELEASE_HEIGHT_M])
        return BIN_M
