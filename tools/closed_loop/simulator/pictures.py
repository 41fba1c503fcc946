"""The pictures of docs/closed_loop.md: every condition, and an episode of each task.

    python -m tools.closed_loop.simulator.pictures --out docs/images
    python -m tools.closed_loop.simulator.pictures --task can --out docs/images

Runs in the simulator's environment.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from tools.closed_loop.interface import CONDITIONS, TASKS
from tools.closed_loop.recipe import FIRST_TEST_SEED
from tools.closed_loop.simulator.conditions import condition
from tools.closed_loop.simulator.episode import Episode
from tools.closed_loop.simulator.expert import DOWN_XYZW, Expert
from tools.closed_loop.simulator.scene import Scene
from tools.closed_loop.simulator.tasks import task

SIDE_PX = 200
COLUMNS = 4
MOMENTS = 3
CAPTION_PX = 22


def save_picture(scene: Scene, path: Path) -> None:
    """Write what both cameras see now, side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.hstack(list(scene.images().values())))


def write(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (H, W, 3), RGB, as PNG."""
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1])):
        raise OSError(f"{path} cannot be written")


def captioned(pixels: np.ndarray, text: str) -> np.ndarray:
    """Return the pixels below a line of text."""
    line = np.full((CAPTION_PX, pixels.shape[1], 3), 255, np.uint8)
    black = (0, 0, 0)
    cv2.putText(line, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, black, 1, cv2.LINE_AA)
    return np.vstack([line, pixels])


def conditions_sheet() -> np.ndarray:
    """Return agentview of Lift under every condition."""
    tiles = []
    # One scene: of several in a process, only the first one draws.
    scene = Scene(task("lift"), condition(CONDITIONS[0]), SIDE_PX)
    for name in CONDITIONS:
        scene.condition = condition(name)
        scene.reset(FIRST_TEST_SEED)
        tiles.append(captioned(scene.image("agentview"), name))
    rows = [tiles[k : k + COLUMNS] for k in range(0, len(tiles), COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


def episode_strip(name: str) -> np.ndarray:
    """Return moments of the expert's first episode of a task, both cameras."""
    scene = Scene(task(name), condition(CONDITIONS[0]), SIDE_PX)
    scene.reset(FIRST_TEST_SEED)
    episode, expert = Episode(scene, FIRST_TEST_SEED), Expert(scene.task.places)
    moments = [np.hstack(list(scene.images().values()))]
    while not episode.over:
        target_m, gripper = expert.act(scene)
        scene.step(target_m, DOWN_XYZW, gripper)
        episode.watch()
        moments.append(np.hstack(list(scene.images().values())))
    chosen = np.linspace(0, len(moments) - 1, MOMENTS).round().astype(int)
    return captioned(np.hstack([moments[k] for k in chosen]), name)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.closed_loop.simulator.pictures")
    parser.add_argument("--task", choices=TASKS, help="an episode of it (default: the conditions)")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args(arguments)
    if args.task is None:
        write(args.out / "closed_loop_conditions.png", conditions_sheet())
    else:
        write(args.out / f"closed_loop_{args.task}.png", episode_strip(args.task))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
