"""The folder that a run works in, and the programs that it starts. Whatever is whole is kept."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.closed_loop.forms import FORMS, OF_TROUBLE, USUAL
from tools.closed_loop.interface import (
    CAMERAS,
    FRAME_ID,
    GOAL_TOPIC,
    GRIPPER_JOINT,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    OBJECTS,
    POSE_TOPIC,
    TARGETS_TOPIC,
    has_goal,
    image_topic,
)
from tools.closed_loop.recipe import RECIPE, OtherRecipe, claim
from vit_perception.files.atomic import file_sha256, write_whole
from vit_perception.files.errors import OperationFailed

ROOT = Path(__file__).resolve().parents[2]
NODE_NAME = "/vit_encoder"


@dataclass
class Work:
    """One folder, one encoder."""

    folder: Path
    sim_python: Path  # of .venv-sim
    checkpoint: str = "demo"
    parameters: dict = field(default_factory=dict)  # of the node, above those below

    def __post_init__(self) -> None:
        if not self.sim_python.exists():
            raise OperationFailed(
                f"{self.sim_python} is missing: `make .venv-sim/.ready` sets the simulator up"
            )
        try:
            claim(self.folder)
        except OtherRecipe as error:
            raise OperationFailed(str(error)) from error

    def node_file(self, task: str, form: str = USUAL, trouble: str = "none") -> Path:
        """Write the node's parameter file, and return its path: equal ones have one path."""
        parts = ["node", *["goal"] * has_goal(task), form]
        parts += [task] * (FORMS[form].directions > 0) + [trouble] * (trouble in OF_TROUBLE)
        path = self.folder / f"{slug('_'.join(parts))}.yaml"
        parameters = self._node_parameters(task) | FORMS[form].parameters
        if FORMS[form].directions:
            parameters["tokens.basis"] = str(self.basis(task, FORMS[form].directions))
        parameters |= OF_TROUBLE.get(trouble, {}) | self.parameters
        text = yaml.safe_dump({"/**": {"ros__parameters": parameters}})
        write_whole(path, lambda file: file.write_text(text))
        return path

    def _node_parameters(self, task: str) -> dict:
        goal = {
            "state_names": ["gripper", "goal"],
            "states.goal.topic": GOAL_TOPIC,
            "states.goal.joints": list(OBJECTS),
            "states.goal.wait_s": 1.0,
        }
        size = f"{RECIPE.image_px}x{RECIPE.image_px}"
        return {
            "camera_names": list(CAMERAS),
            **{f"cameras.{name}.topic": image_topic(name) for name in CAMERAS},
            "pose_names": ["arm"],
            "poses.arm.topic": POSE_TOPIC,
            "poses.arm.frame_id": FRAME_ID,
            # Simulated time waits for the answer, so a late message costs nothing but patience.
            "poses.arm.wait_s": 1.0,
            "state_names": ["gripper"],
            "states.gripper.topic": JOINTS_TOPIC,
            "states.gripper.joints": [GRIPPER_JOINT],
            "states.gripper.wait_s": 1.0,
            "model.checkpoint": self.checkpoint,
            "model.network_size": size,
            "columns": [f"target={TARGETS_TOPIC}:poses", f"fingers={GRIPPER_TOPIC}:points"],
            "autostart": True,
            "use_sim_time": True,
        } | (goal if has_goal(task) else {})

    def bags(self, task: str, count: int) -> list[Path]:
        """Return the first ``count`` demonstrations."""
        return sorted((self.folder / "demonstrations" / task).glob("seed_??????"))[:count]

    def features(self, task: str, count: int, augmented: bool, form: str = USUAL) -> Path:
        """Return the folder of the features of ``count`` demonstrations."""
        parts = [task, str(count), *["augmented"] * augmented, *[form] * (form != USUAL)]
        return self.folder / "features" / slug("_".join(parts))

    def policy(self, task: str, name: str, count: int, seed: int) -> Path:
        """Return the file of a trained policy."""
        return self.folder / "policies" / task / f"{slug(name)}_{count}_{seed}.safetensors"

    def basis(self, task: str, directions: int) -> Path:
        """Return the file of a basis of the patch tokens of ``task``."""
        return self.folder / "bases" / f"{task}_{directions}.safetensors"

    def episodes(self, policy: Path, task: str, condition: str, variant: str) -> Path:
        """Return the file of a cell's episodes. A policy that was trained again has other ones."""
        digest = file_sha256(policy)[:12]
        name = f"{slug(condition)}{variant}.jsonl"
        return self.folder / "episodes" / task / f"{policy.stem}_{digest}" / name

    def sim_environment(self) -> dict[str, str]:
        """Return the environment of the simulator's programs."""
        environment = dict(os.environ)
        environment |= {
            "PYTHONPATH": str(ROOT),
            "AMENT_PREFIX_PATH": str(self.sim_python.parent.parent),
            "PYTHONUNBUFFERED": "1",
        }
        return environment

    def run_sim(self, module: str, *arguments: str) -> None:
        """Run a program of the simulator to its end.

        Raises:
            OperationFailed: it failed.
        """
        command = [str(self.sim_python), "-m", module, *arguments]
        run_to_end(command, self.sim_environment())

    def run_here(self, module: str, *arguments: str) -> None:
        """Run a program in this environment to its end.

        Raises:
            OperationFailed: it failed.
        """
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", module, *arguments]
        run_to_end(command, {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"})


def slug(name: str) -> str:
    """Return a name of the table as part of a file's name."""
    return name.replace(", ", "_").replace(" ", "_")


def run_to_end(command: list[str], environment: dict[str, str]) -> None:
    """Run ``command`` with this process's output.

    Raises:
        OperationFailed: it failed.
    """
    status = subprocess.run(command, env=environment, cwd=ROOT).returncode
    if status:
        raise OperationFailed(f"{' '.join(command[2:4])} ended with status {status}")
