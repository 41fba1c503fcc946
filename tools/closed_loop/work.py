"""The folder that a run works in, and the programs that it starts. Whatever is whole is kept."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.closed_loop.interface import (
    CAMERAS,
    FRAME_ID,
    GRIPPER_JOINT,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    POSE_TOPIC,
    TARGETS_TOPIC,
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
        self.node_file = self.folder / "node.yaml"
        text = yaml.safe_dump({"/**": {"ros__parameters": self._node_parameters()}})
        write_whole(self.node_file, lambda file: file.write_text(text))

    def _node_parameters(self) -> dict:
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
            "output_dtype": "float16",
            "columns": [f"target={TARGETS_TOPIC}:poses", f"fingers={GRIPPER_TOPIC}:points"],
            "autostart": True,
            "use_sim_time": True,
            **self.parameters,
        }

    def bags(self, task: str, count: int) -> list[Path]:
        """Return the first ``count`` demonstrations."""
        return sorted((self.folder / "demonstrations" / task).glob("seed_??????"))[:count]

    def features(self, task: str, count: int) -> Path:
        """Return the folder of the features of ``count`` demonstrations."""
        return self.folder / "features" / f"{task}_{count}"

    def policy(self, task: str, name: str, count: int, seed: int) -> Path:
        """Return the file of a trained policy."""
        file = f"{name.replace(', ', '_').replace(' ', '_')}_{count}_{seed}.safetensors"
        return self.folder / "policies" / task / file

    def episodes(self, policy: Path, task: str, condition: str, variant: str) -> Path:
        """Return the file of a cell's episodes. A policy that was trained again has other ones."""
        digest = file_sha256(policy)[:12]
        name = f"{condition.replace(', ', '_').replace(' ', '_')}{variant}.jsonl"
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


def run_to_end(command: list[str], environment: dict[str, str]) -> None:
    """Run ``command`` with this process's output.

    Raises:
        OperationFailed: it failed.
    """
    status = subprocess.run(command, env=environment, cwd=ROOT).returncode
    if status:
        raise OperationFailed(f"{' '.join(command[2:4])} ended with status {status}")
