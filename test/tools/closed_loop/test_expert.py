"""The scripted expert, in the real simulator."""

import json
import os
import subprocess

import pytest

from test.conftest import ROOT

SIM_PYTHON = ROOT / ".venv-sim/bin/python"
# Runs in the simulator's environment: one episode of a task and a seed, and its result as JSON.
EPISODE = """
import json, sys
from tools.closed_loop.simulator.conditions import condition
from tools.closed_loop.simulator.episode import Episode
from tools.closed_loop.simulator.expert import DOWN_XYZW, Expert
from tools.closed_loop.simulator.scene import Scene
from tools.closed_loop.simulator.tasks import task

scene = Scene(task(sys.argv[1]), condition("as demonstrated"), 32)
for seed in map(int, sys.argv[2:]):
    scene.reset(seed)
    episode, expert = Episode(scene, seed), Expert(scene.task.places)
    while not episode.over:
        target_m, gripper = expert.act(scene)
        scene.step(target_m, DOWN_XYZW, gripper)
        episode.watch()
    print(json.dumps(episode.result() | {"goal": scene.goal}))
"""


def results_of(task: str, *seeds: int) -> list[dict]:
    """Let the expert do episodes without pushes, and return their results."""
    if not SIM_PYTHON.exists():
        pytest.skip("no .venv-sim: `make .venv-sim/.ready` sets the simulator up")
    command = [str(SIM_PYTHON), "-c", EPISODE, task, *map(str, seeds)]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_expert_grasps_a_can_beside_the_bins_side():
    """The palm touches can and bin, and the hand comes no nearer; the expert once waited there."""
    (result,) = results_of("can", 100_000)
    assert result["success"] and result["seconds"] < 10


def test_the_expert_takes_the_object_that_is_named():
    results = results_of("named", 100_000, 100_001, 100_003, 100_010)
    assert all(result["success"] for result in results)
    assert {result["goal"] for result in results} == {0, 1, 2, 3}
