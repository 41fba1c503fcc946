"""One world of robosuite: set up by seed, stepped at 10 Hz, seen by two cameras.

An image takes 15 to 70 ms on a CPU. Its size hardly matters; shadows, reflections and multisampling
do, so they are off.
"""

import mujoco
import numpy as np
import robosuite
from robosuite.controllers import load_composite_controller_config
from scipy.spatial.transform import Rotation

from tools.closed_loop.interface import CAMERAS, CONTROL_PERIOD_NS, OBJECTS
from tools.closed_loop.simulator.conditions import Condition
from tools.closed_loop.simulator.tasks import Task

# The controller answers a target that is far away with a jerk.
LONGEST_REACH_M = 0.08


class Scene:
    """The world of one task under one condition."""

    def __init__(self, task: Task, condition: Condition, image_px: int):
        controller = load_composite_controller_config(robot="Panda")
        controller["body_parts"]["right"].update(
            input_type="absolute", input_ref_frame="world", kp=150
        )
        self.task = task
        self.condition = condition
        self.goal = 0  # which of OBJECTS is named, in a task that names one
        self.first_m = np.zeros(3)  # where the object was at the begin of the episode
        self._image_px = image_px
        self.env = robosuite.make(
            task.environment,
            robots="Panda",
            controller_configs=controller,
            # The size of the cube is drawn here, once: it must be the same in every process.
            seed=0,
            control_freq=1e9 / CONTROL_PERIOD_NS,
            hard_reset=False,
            ignore_done=True,
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=False,
            **task.arguments(),
        )
        self.robot = self.env.robots[0]
        self._raw = self.env.sim.model._model
        self._site = self.robot.eef_site_id["right"]
        self._prepare_drawing()
        self._original = condition.saved(self._raw)
        self.reset(0)

    def _prepare_drawing(self) -> None:
        self._raw.vis.quality.offsamples = 0
        self._drawing = self.env.sim._render_context_offscreen
        self._drawing.con.free()
        self._drawing._set_mujoco_context_and_buffers()
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._drawing.scn.flags[flag] = 0

    def reset(self, seed: int) -> None:
        """Begin an episode. The same seed gives the same one, whatever was before it."""
        state = np.random.default_rng(seed).bit_generator.state
        self.env.rng.bit_generator.state = state
        self.robot.rng = self.env.rng
        for sampler in samplers_of(self.env.placement_initializer):
            sampler.rng = self.env.rng
        # Drawn apart: what stands where does not depend on what is named.
        self.goal = int(np.random.default_rng([seed, 4]).integers(len(OBJECTS)))
        self.condition.restore(self._raw, self._original)
        self.env.reset()
        self.env.sim.forward()
        self.condition.apply(self, seed)
        self.env.sim.forward()
        self.first_m = self.object_m()

    @property
    def model(self):
        """The mujoco.MjModel."""
        return self._raw

    def object_m(self) -> np.ndarray:
        """Return the centre of the object that the task is about, (3,) in the world."""
        return self._centre_m(self.task.object_of(self))

    def grip_m(self) -> np.ndarray:
        """Return where the fingers should grip it, (3,)."""
        below_m = self.task.grip_below_top_m
        if below_m is None:
            return self.object_m()
        half_height_m = self.task.object_of(self).get_bounding_box_half_size()[2]
        return self.object_m() + np.array([0.0, 0.0, max(0.0, half_height_m - below_m)])

    def _centre_m(self, thing) -> np.ndarray:
        body = self.env.sim.model.body_name2id(thing.root_body)
        return self.env.sim.data.body_xpos[body].copy()

    def hand(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position (m) and quaternion (xyzw) of the point between the fingers."""
        data = self.env.sim.data
        rotation = Rotation.from_matrix(data.site_xmat[self._site].reshape(3, 3))
        return data.site_xpos[self._site].copy(), rotation.as_quat()

    def gripper_m(self) -> float:
        """Return the distance between the fingers."""
        joints = self.robot._ref_gripper_joint_pos_indexes["right"]
        return float(np.abs(self.env.sim.data.qpos[joints]).sum())

    def goal_numbers(self) -> list[float]:
        """Return 1 for the named one of ``OBJECTS``, and 0 for each other one."""
        return [float(number == self.goal) for number in range(len(OBJECTS))]

    def grasped(self) -> bool:
        """Return whether both fingers touch the object."""
        return bool(
            self.env._check_grasp(
                gripper=self.robot.gripper["right"], object_geoms=self.task.object_of(self)
            )
        )

    def step(self, target_m: np.ndarray, quaternion_xyzw: np.ndarray, gripper: float) -> None:
        """Advance by one control period towards a target."""
        way_m = target_m - self.hand()[0]
        distance_m = np.linalg.norm(way_m)
        way_m = way_m * min(1.0, LONGEST_REACH_M / max(distance_m, 1e-9))
        rotation = Rotation.from_quat(quaternion_xyzw).as_rotvec()
        self.env.step(np.concatenate([self.hand()[0] + way_m, rotation, [gripper]]))
        # After a step, mujoco's positions lag its clock by one physics step.
        self.env.sim.forward()

    def images(self) -> dict[str, np.ndarray]:
        """Draw every camera: name to (H, W, 3) uint8, RGB."""
        return {name: self.image(name) for name in CAMERAS}

    def image(self, name: str) -> np.ndarray:
        """Draw the camera of that name, (H, W, 3) uint8, RGB."""
        camera = CAMERAS[name]
        drawing = self._drawing
        drawing.gl_ctx.make_current()
        drawing.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
        drawing.cam.fixedcamid = self.env.sim.model.camera_name2id(camera)
        mujoco.mjv_updateScene(
            self._raw,
            self.env.sim.data._data,
            drawing.vopt,
            drawing.pert,
            drawing.cam,
            mujoco.mjtCatBit.mjCAT_ALL,
            drawing.scn,
        )
        self.condition.add_shapes(drawing.scn)
        size_px = self._image_px
        mujoco.mjr_render(mujoco.MjrRect(0, 0, size_px, size_px), drawing.scn, drawing.con)
        return np.ascontiguousarray(drawing.read_pixels(size_px, size_px)[::-1])


def samplers_of(initializer) -> list:
    """Return every sampler of a placement initializer, itself included."""
    return [initializer, *getattr(initializer, "samplers", {}).values()]
