"""The parts of the closed loop that need neither ROS nor the simulator."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from tools.closed_loop import forms, interface, plan, recipe
from tools.closed_loop.__main__ import parse
from tools.closed_loop.accounts import Accounts
from tools.closed_loop.cell import Cell, check_accounts, chosen
from tools.closed_loop.chunks import MOST_PENDING, ChunkInputs, timing_of_chunks
from tools.closed_loop.results import merged, row, table, wilson
from tools.closed_loop.work import Work
from vit_perception.files.errors import OperationFailed

CELL = Cell(
    task="lift", policy="spatial", demonstrations=60, training_seed=0, condition="as demonstrated"
)


COUNTS = {"observations": 10, "applied": 9, "missed": 1}


def header(stamp_ns: int) -> SimpleNamespace:
    stamp = SimpleNamespace(**interface.stamp_parts(stamp_ns))
    return SimpleNamespace(stamp=stamp)


def poses(stamp_ns: int, xs: list[float], w: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp_ns),
        poses=[
            SimpleNamespace(
                position=SimpleNamespace(x=x, y=0.0, z=0.0),
                orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=w),
            )
            for x in xs
        ],
    )


def grippers(stamp_ns: int, *positions: list[float]) -> SimpleNamespace:
    points = [SimpleNamespace(positions=each) for each in positions]
    return SimpleNamespace(header=header(stamp_ns), points=points)


def test_a_chunk_is_two_messages_of_one_stamp_and_its_last_step_holds():
    inputs = ChunkInputs()
    inputs.add_grippers(grippers(3_500_000_000, [-1.0], [1.0]))
    inputs.add_poses(poses(3_600_000_000, [9.0, 9.0]))
    assert inputs.take(3_500_000_000) is None and inputs.received == 0
    inputs.add_poses(poses(3_500_000_000, [0.1, 0.2]))
    chunk = inputs.take(3_500_000_000)
    assert inputs.received == 1 and inputs.take(3_500_000_000) is None
    timing = timing_of_chunks()
    steps = (0, 1, 2, interface.STEPS + 5)
    found = [chunk.at(timing, 3_500_000_000 + k * interface.CONTROL_PERIOD_NS) for k in steps]
    assert [pose[0] for pose, _ in found] == [0.1, 0.2, 0.2, 0.2]
    assert [gripper for _, gripper in found] == [-1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "message",
    [
        poses(1, []),
        poses(1, [math.nan]),
        poses(1, [math.inf]),
        poses(1, [0.1], w=0.0),
        grippers(1),
        grippers(1, [0.0, 0.0]),
        grippers(1, []),
        grippers(1, [math.nan]),
        grippers(1, [1.5]),
    ],
)
def test_what_is_no_chunk_is_refused_and_counted(message):
    inputs = ChunkInputs()
    if hasattr(message, "poses"):
        inputs.add_poses(message)
        inputs.add_grippers(grippers(1, [0.0]))
    else:
        inputs.add_grippers(message)
        inputs.add_poses(poses(1, [0.1]))
    assert sum(inputs.refused.values()) == 1 and inputs.received == 0


def test_halves_do_not_pile_up_and_older_chunks_are_counted():
    inputs = ChunkInputs()
    for stamp_ns in range(1, MOST_PENDING + 11):
        inputs.add_poses(poses(stamp_ns, [0.0]))
    inputs.add_grippers(grippers(10, [0.0]))
    assert inputs.received == 0
    for stamp_ns in (MOST_PENDING + 8, MOST_PENDING + 10):
        inputs.add_grippers(grippers(stamp_ns, [0.0]))
    assert inputs.take_newest().stamp_ns == MOST_PENDING + 10
    assert inputs.superseded == 1 and inputs.take_newest() is None


def test_accounts_close_or_say_what_does_not():
    good = {"observations": 7, "applied": 5, "missed": 2, "chunks": 8, "rehearsed": 1, "unused": 2}
    assert Accounts(**good).wrong() == ""
    assert "7 observations, 5 applied, 1 missed" in Accounts(**good | {"missed": 1}).wrong()
    assert "9 chunks" in Accounts(**good | {"chunks": 9}).wrong()
    simulator = {"chunks": 8, "refused": {}}
    check_accounts(CELL, simulator, {"answered": 8})
    with pytest.raises(OperationFailed, match="sent 9 chunks.* received 8"):
        check_accounts(CELL, simulator, {"answered": 9})
    with pytest.raises(OperationFailed, match="refused messages.*NaN"):
        check_accounts(CELL, simulator | {"refused": {"NaN": 1}}, {"answered": 8})


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(40, 40, 0.912, 1.0), (0, 20, 0.0, 0.161), (18, 20, 0.699, 0.972), (0, 0, 0.0, 1.0)],
)
def test_wilson(successes, count, low, high):
    """Against published values of the interval."""
    assert wilson(successes, count) == pytest.approx((low, high), abs=5e-4)


def test_a_row_counts_and_the_table_pools_training_seeds():
    episodes = [
        {"seed": 100_000, "success": True, "seconds": 2.0, "progress": "done"},
        {"seed": 100_001, "success": False, "seconds": 6.0, "progress": "grasped"},
        {"seed": 100_002, "success": True, "seconds": 3.0, "progress": "done"},
    ]
    episodes = [each | COUNTS for each in episodes]
    found = row(CELL, episodes)
    assert (found["successes"], found["episodes"], found["seconds"]) == (2, 3, 2.5)
    assert found["failed_after"] == {"grasped": 1}
    assert (found["observations"], found["applied"], found["missed"]) == (30, 27, 3)
    assert found["seeds"] == [100_000, 100_002]
    other = found | {"training_seed": 1, "successes": 3}
    blind = found | {"policy": "pose only", "successes": 0, "condition": "dim"}
    lines = table([found, other, blind]).splitlines()
    assert lines[2] == "| lift | as demonstrated | 5/6 (0.44–0.97) | – |"
    assert lines[3] == "| lift | dim | – | 0/3 (0.00–0.56) |"


def test_cells_of_other_commands_stay_and_more_episodes_win():
    found = row(CELL, [{"seed": 1, "success": True, "seconds": 2.0, "progress": "done"} | COUNTS])
    more = found | {"episodes": 2}
    other = found | {"form": "int8"}
    assert merged([found, other], [more]) == [more, other]
    assert merged([more], [found]) == [more]
    assert merged([found], [found | {"successes": 0}]) == [found | {"successes": 0}]


def test_a_half_written_line_is_no_episode(tmp_path):
    path = tmp_path / "cell.jsonl"
    path.write_text('{"seed": 5}\n{"seed": 6}\n{"seed": 7')
    assert [each["seed"] for each in chosen(path, (6, 10))] == [6]
    assert chosen(tmp_path / "none.jsonl", (0, 10)) == []


def test_conditions_are_for_policies_that_see():
    args = parse(["--training-seeds", "2", "--policies", "spatial", "pose only", "--tasks", "lift"])
    cells = plan.cells_of(args)
    others = len(forms.FORMS) - 1 + len(interface.TROUBLES) - 1
    assert len(cells) == len(set(cells)) == 2 * (len(interface.CONDITIONS) + 1 + others)
    assert {cell.condition for cell in cells if cell.policy == "pose only"} == {"as demonstrated"}
    assert [cell.condition for cell in cells[:4]] == ["as demonstrated"] * 4


def test_the_nodes_parameters_are_those_of_the_cell(tmp_path):
    """Equal parameters have one file: the node then stays from cell to cell."""
    work = Work(tmp_path, Path(sys.executable))

    def parameters(path: Path) -> dict:
        return yaml.safe_load(path.read_text())["/**"]["ros__parameters"]

    usual = work.node_file("lift")
    assert usual == work.node_file("can") == work.node_file("lift", "float16", "half as often")
    assert parameters(usual)["output_dtype"] == "float16"
    assert parameters(usual)["state_names"] == ["gripper"]
    named = work.node_file("named")
    assert named != usual and parameters(named)["state_names"] == ["gripper", "goal"]
    assert parameters(named)["states.goal.joints"] == list(interface.OBJECTS)
    basis = {work.node_file(task, "basis 64") for task in ("lift", "can")}
    assert {parameters(path)["tokens.basis"] for path in basis} == {
        str(work.basis(task, 64)) for task in ("lift", "can")
    }
    silent = work.node_file("lift", trouble="wrist silent")
    assert parameters(silent)["sync.policy"] == "mask" and "sync.policy" not in parameters(usual)
    late = parameters(work.node_file("lift", trouble="pose late"))
    assert late["poses.arm.wait_s"] == 0.0


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    recipe.claim(tmp_path / "work")
    recipe.claim(tmp_path / "work")
    with pytest.raises(recipe.OtherRecipe, match=r"recipe\.json"):
        recipe.claim(tmp_path / "work", recipe.Recipe(image_px=84))
    assert np.iinfo(np.int32).max > recipe.FIRST_TEST_SEED > recipe.FIRST_DEMONSTRATION_SEED
