"""What is changed in the scene that the demonstrations were recorded in, one parameter each.

Only how things look or where a camera stands is changed, never what the robot must do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from tools.closed_loop.interface import CONDITIONS

# What conditions change in mujoco's model, saved once and restored before each episode.
_ARRAYS = ("light_diffuse", "light_ambient", "light_dir", "geom_matid", "geom_rgba")
_CAMERA_ARRAYS = ("cam_pos", "cam_quat")
SHAPE_SIZE_M = 0.02
# No distractor stands on the object or touches it.
CLEAR_M = 0.08


@dataclass(eq=False)
class Condition:
    """One condition."""

    name: str
    change: Callable[[Any], None] | None = None  # of the scene, at the beginning of each episode
    shape_colours: tuple = ()  # RGBA of each distractor
    _shapes: list = field(default_factory=list)

    def saved(self, model) -> dict[str, np.ndarray]:
        """Return copies of what conditions may change in ``model``."""
        arrays = {name: getattr(model, name).copy() for name in (*_ARRAYS, *_CAMERA_ARRAYS)}
        for name in ("ambient", "diffuse"):
            arrays[f"headlight.{name}"] = getattr(model.vis.headlight, name).copy()
        return arrays

    def restore(self, model, saved: dict[str, np.ndarray]) -> None:
        """Undo every change."""
        for name, values in saved.items():
            owner = model.vis.headlight if name.startswith("headlight.") else model
            getattr(owner, name.removeprefix("headlight."))[:] = values

    def apply(self, scene, seed: int) -> None:
        """Change ``scene``, which has just been reset with ``seed``."""
        if self.change is not None:
            self.change(scene)
        self._shapes = []
        random = np.random.default_rng([seed, 1])
        while len(self._shapes) < len(self.shape_colours):
            place_m = scene.task.distractor_m(random)
            if np.linalg.norm((place_m - scene.object_m())[:2]) > CLEAR_M:
                self._shapes.append((place_m, self.shape_colours[len(self._shapes)]))

    def add_shapes(self, drawn) -> None:
        """Add the distractors to what is drawn (mujoco.MjvScene); nothing collides with them."""
        for place_m, colour in self._shapes:
            mujoco.mjv_initGeom(
                drawn.geoms[drawn.ngeom],
                mujoco.mjtGeom.mjGEOM_BOX,
                np.full(3, SHAPE_SIZE_M),
                np.asarray(place_m, float),
                np.eye(3).ravel(),
                np.asarray(colour, np.float32),
            )
            drawn.ngeom += 1


def _light(factor: float) -> Callable[[Any], None]:
    def change(scene) -> None:
        model = scene.model
        for array in (
            model.light_diffuse,
            model.light_ambient,
            model.vis.headlight.diffuse,
            model.vis.headlight.ambient,
        ):
            array *= factor

    return change


def _side_light(scene) -> None:
    # The only light is directional: where it stands changes nothing.
    scene.model.light_dir[:] = np.array([0.0, 0.8, -0.6])


def _coloured(geoms_of: Callable[[Any], list[int]], rgba: tuple) -> Callable[[Any], None]:
    def change(scene) -> None:
        geoms = geoms_of(scene)
        scene.model.geom_matid[geoms] = -1
        scene.model.geom_rgba[geoms] = rgba

    return change


def _table(scene) -> list[int]:
    return scene.task.table_geoms(scene)


def _object(scene) -> list[int]:
    names = scene.task.object_of(scene).visual_geoms
    return [scene.env.sim.model.geom_name2id(name) for name in names]


def _tiles(scene) -> None:
    """Give the table the material of the floor's tiles."""
    floor = scene.env.sim.model.geom_name2id("floor")
    scene.model.geom_matid[_table(scene)] = scene.model.geom_matid[floor]


def _camera(scene) -> None:
    """Move agentview by 5 cm and turn it by 6 degrees, about its own vertical axis."""
    model = scene.model
    number = scene.env.sim.model.camera_name2id("agentview")
    w, x, y, z = model.cam_quat[number]
    pose = Rotation.from_quat([x, y, z, w])
    model.cam_pos[number] += pose.apply([0.05, 0.0, 0.0])
    x, y, z, w = (pose * Rotation.from_euler("y", 6, degrees=True)).as_quat()
    model.cam_quat[number] = [w, x, y, z]


_OTHERS = ((0.1, 0.2, 0.9, 1), (0.1, 0.7, 0.2, 1), (0.9, 0.8, 0.1, 1))
_REDS = ((0.75, 0.08, 0.06, 1),) * 3

_MAKERS: dict[str, dict[str, Any]] = {
    "as demonstrated": {},
    "dim": {"change": _light(0.4)},
    "dark": {"change": _light(0.2)},
    "side light": {"change": _side_light},
    "table blue": {"change": _coloured(_table, (0.2, 0.3, 0.7, 1))},
    "table black": {"change": _coloured(_table, (0.03, 0.03, 0.03, 1))},
    "table tiled": {"change": _tiles},
    "distractors": {"shape_colours": _OTHERS},
    "distractors, own colour": {"shape_colours": _REDS},
    "camera moved": {"change": _camera},
    "object green": {"change": _coloured(_object, (0.1, 0.7, 0.15, 1))},
    "object blue": {"change": _coloured(_object, (0.1, 0.2, 0.8, 1))},
}
assert tuple(_MAKERS) == CONDITIONS


def condition(name: str) -> Condition:
    """Return the condition of that name."""
    return Condition(name, **_MAKERS[name])
