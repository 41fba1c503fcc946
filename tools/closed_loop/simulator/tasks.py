"""The tasks: which world of robosuite, where its object may stand, and when it is done.

Functions of a task take the Scene.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from robosuite.utils.placement_samplers import UniformRandomSampler

from tools.closed_loop.interface import TASKS

# robosuite's own range of 3 cm is so small that a policy without pictures does it too often.
CUBE_RANGE_M = 0.12
# The named object has been taken when it is so far above where it stood.
TAKEN_M = 0.1


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task."""

    environment: str  # robosuite's name of the world
    arguments: Callable[[], dict[str, Any]]  # what robosuite.make is given besides
    object_of: Callable[[Any], Any]  # robosuite's object that the task is about
    done: Callable[[Any], bool]
    # The geoms of what the object stands on.
    table_geoms: Callable[[Any], list[int]]
    # The middle of where a distractor may be, and how far from it, in m.
    table_m: tuple[float, float, float]
    table_half_m: tuple[float, float]
    longest_steps: int  # control steps after which an episode has failed
    # Control steps from one recorded observation to the next: to encode them is what takes long.
    record_every: int
    places: bool  # whether the object is put into the bin, or only lifted
    # The hand closes when it is so near. Beside the bin's side it comes no nearer to a can: there
    # the palm touches both.
    close_enough_m: float
    # How far below its top a high object is gripped, so that the palm stays above it. None: at its
    # centre.
    grip_below_top_m: float | None = None

    def distractor_m(self, random: np.random.Generator) -> np.ndarray:
        """Return a place on the table, (3,)."""
        half_m = np.array([*self.table_half_m, 0.0])
        return np.array(self.table_m) + random.uniform(-half_m, half_m)


def _lift_arguments() -> dict[str, Any]:
    sampler = UniformRandomSampler(
        name="ObjectSampler",
        x_range=[-CUBE_RANGE_M, CUBE_RANGE_M],
        y_range=[-CUBE_RANGE_M, CUBE_RANGE_M],
        rotation=None,
        ensure_object_boundary_in_range=False,
        ensure_valid_placement=True,
        reference_pos=(0, 0, 0.8),
        z_offset=0.01,
    )
    return {"placement_initializer": sampler}


def _robosuite_says(scene) -> bool:
    return bool(scene.env._check_success())


def _taken(scene) -> bool:
    return scene.grasped() and scene.object_m()[2] - scene.first_m[2] > TAKEN_M


def _named(scene):
    return scene.env.objects[scene.goal]


def _table_geoms(scene) -> list[int]:
    return [scene.env.sim.model.geom_name2id("table_visual")]


def _bin_geoms(scene) -> list[int]:
    """The visible sides and bottom of the bin with the object; robosuite gives them no names."""
    env = scene.env
    model = scene.model
    is_bin = model.geom_bodyid == env.sim.model.body_name2id("bin1")
    unnamed = [env.sim.model.geom_id2name(geom) is None for geom in range(model.ngeom)]
    return list(np.flatnonzero(is_bin & (model.geom_group == 1) & unnamed))


_BY_NAME = {
    "lift": Task(
        environment="Lift",
        arguments=_lift_arguments,
        object_of=lambda scene: scene.env.cube,
        done=_robosuite_says,
        table_geoms=_table_geoms,
        table_m=(0.0, 0.0, 0.82),
        table_half_m=(0.2, 0.2),
        longest_steps=60,
        record_every=1,
        places=False,
        close_enough_m=0.012,
    ),
    "can": Task(
        environment="PickPlaceCan",
        arguments=dict,
        object_of=lambda scene: scene.env.objects[scene.env.object_id],
        done=_robosuite_says,
        table_geoms=_bin_geoms,
        table_m=(0.1, -0.25, 0.84),
        table_half_m=(0.15, 0.2),
        longest_steps=180,
        record_every=2,
        places=True,
        close_enough_m=0.015,
    ),
    "named": Task(
        environment="PickPlace",
        arguments=lambda: {"z_rotation": 0.0},
        object_of=_named,
        done=_taken,
        table_geoms=_bin_geoms,
        table_m=(0.1, -0.25, 0.84),
        table_half_m=(0.15, 0.2),
        longest_steps=80,
        record_every=1,
        places=False,
        close_enough_m=0.015,
        grip_below_top_m=0.045,
    ),
}
assert tuple(_BY_NAME) == TASKS


def task(name: str) -> Task:
    """Return the task of that name."""
    return _BY_NAME[name]
