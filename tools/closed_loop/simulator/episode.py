"""What happened in an episode: success, how long it took, and how far it came."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.closed_loop.interface import CONTROL_PERIOD_NS

if TYPE_CHECKING:
    from tools.closed_loop.simulator.scene import Scene

REACHED_M = 0.03
LIFTED_M = 0.04
# From little to much. An episode that fails is named by the last one that it came to.
PROGRESS = ("never at the object", "at the object", "grasped", "lifted", "done")


@dataclass
class Episode:
    """Watches one episode; call ``watch`` after each control step."""

    scene: "Scene"
    seed: int
    steps: int = 0
    progress: int = 0

    def watch(self) -> None:
        """Look at the state as it is now."""
        self.steps += 1
        object_m = self.scene.object_m()
        beside_m = np.linalg.norm(self.scene.hand()[0] - object_m)
        grasped = self.scene.grasped()
        seen = (
            (4, self.scene.task.done(self.scene)),
            (3, grasped and object_m[2] - self.scene.first_m[2] > LIFTED_M),
            (2, grasped),
            (1, beside_m < REACHED_M),
        )
        self.progress = max([self.progress, *(level for level, there in seen if there)])

    @property
    def success(self) -> bool:
        return PROGRESS[self.progress] == "done"

    @property
    def over(self) -> bool:
        return self.success or self.steps >= self.scene.task.longest_steps

    def result(self) -> dict:
        """Return the episode's line of the results."""
        return {
            "seed": self.seed,
            "success": self.success,
            "seconds": round(self.steps * CONTROL_PERIOD_NS * 1e-9, 3),
            "progress": PROGRESS[self.progress],
        }
