"""One cell of the table: a policy, a task, a condition, as processes that talk over DDS."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.closed_loop.forms import USUAL
from tools.closed_loop.work import NODE_NAME, ROOT, Work, slug
from vit_perception.cli.processes import Child
from vit_perception.files.errors import OperationFailed

POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is run."""

    task: str
    policy: str
    demonstrations: int
    training_seed: int
    condition: str
    real_time: bool = False
    filmed: bool = False  # a picture of each control step is kept
    longest_steps: int | None = None  # of an episode; None: the task's
    form: str = USUAL  # of the node's tokens
    trouble: str = "none"

    @property
    def variant(self) -> str:
        """What the name of its file ends with."""
        parts = [self.form] * (self.form != USUAL) + [self.trouble] * (self.trouble != "none")
        parts += ["real time"] * self.real_time + ["film"] * self.filmed
        parts += [f"{self.longest_steps} steps"] * (self.longest_steps is not None)
        return "".join(f"_{slug(part)}" for part in parts)

    def __str__(self) -> str:
        parts = [self.task, self.policy, f"seed {self.training_seed}", self.condition]
        parts += [self.form] * (self.form != USUAL) + [self.trouble] * (self.trouble != "none")
        return ", ".join(parts + ["real time"] * self.real_time)


class EncoderNode:
    """The encoder node. It stays from one cell to the next one that has the same parameters."""

    def __init__(self, log: Path):
        self._log = log
        self._file: Path | None = None
        self.child: Child | None = None

    def run_with(self, file: Path) -> Child:
        """Return the process with the parameters of ``file``; start it if it is not there."""
        if file != self._file:
            self.stop()
            arguments = ["--ros-args", "-r", f"__node:={NODE_NAME[1:]}", "--params-file"]
            module = "vit_perception.ros.start"
            self.child = Child.module(module, *arguments, str(file), log=self._log)
            self._file = file
        assert self.child is not None
        return self.child

    def stop(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.stop()
        self.child = self._file = None


def run_cell(
    work: Work,
    cell: Cell,
    policy: Path,
    seeds: tuple[int, int],
    node: EncoderNode | None,
    say: Callable[[int], None],
) -> list[dict]:
    """Run the episodes that are not there yet, and return all; ``say`` is told how many there are.

    Raises:
        OperationFailed: a process died, or the accounts do not close.
    """
    out = work.episodes(policy, cell.task, cell.condition, cell.variant)
    out.parent.mkdir(parents=True, exist_ok=True)
    if len(chosen(out, seeds)) < seeds[1]:
        file = work.node_file(cell.task, cell.form, cell.trouble)
        _run(work, cell, policy, seeds, node.run_with(file) if node else None, out, say)
    return chosen(out, seeds)


def delays_of(work: Work, cell: Cell, policy: Path) -> dict:
    """Return what the policy measured of its delays when the cell was last run, in real time."""
    counts = work.episodes(policy, cell.task, cell.condition, cell.variant).with_suffix(".counts")
    names = ("delay_p50_s", "delay_p99_s", "inference_delay")
    found = json.loads(counts.read_text()) if cell.real_time and counts.exists() else {}
    return {name: found[name] for name in names if name in found}


def chosen(out: Path, seeds: tuple[int, int]) -> list[dict]:
    """Return the episodes of ``seeds`` (first, count) that are in a file."""
    if not out.exists():
        return []
    whole = out.read_text().rpartition("\n")[0]
    episodes = [json.loads(line) for line in whole.splitlines()]
    return [each for each in episodes if seeds[0] <= each["seed"] < sum(seeds)]


def _run(work, cell, policy, seeds, node, out, say) -> None:
    counts, accounts = out.with_suffix(".counts"), out.with_suffix(".accounts")
    for path in (counts, accounts):
        path.unlink(missing_ok=True)
    module = "tools.closed_loop.policies.process"
    answering = Child.module(
        module,
        str(policy),
        "--node",
        NODE_NAME,
        "--counts",
        str(counts),
        log=out.with_suffix(".policy.log"),
        environment={"PYTHONPATH": str(ROOT)},
    )
    arguments = ["--task", cell.task, "--condition", cell.condition, "--out", str(out)]
    arguments += ["--trouble", cell.trouble]
    arguments += ["--seeds", *map(str, seeds), "--accounts", str(accounts)]
    arguments += ["--real-time"] * cell.real_time
    if cell.longest_steps is not None:
        arguments += ["--longest-steps", str(cell.longest_steps)]
    if cell.filmed:
        arguments += ["--film", str(out.with_suffix(""))]
    module = "tools.closed_loop.simulator.node"
    simulator = Child(
        [str(work.sim_python), "-m", module, *arguments],
        out.with_suffix(".simulator.log"),
        work.sim_environment(),
    )
    others = {"the policy": answering} | ({"the encoder node": node} if node else {})
    try:
        while simulator.returncode is None:
            if dead := [name for name, child in others.items() if child.returncode is not None]:
                raise OperationFailed(f"{cell}: {dead[0]} ended:\n{others[dead[0]].tail()}")
            time.sleep(POLL_S)
            say(len(chosen(out, seeds)))
    finally:
        status = simulator.stop()
        answering.stop()
    if status:
        raise OperationFailed(f"{cell}: the simulator ended with {status}:\n{simulator.tail()}")
    check_accounts(cell, json.loads(accounts.read_text()), json.loads(counts.read_text()))


def check_accounts(cell: Cell, simulator: dict, policy: dict) -> None:
    """Compare what both sides counted, each by itself.

    Raises:
        OperationFailed: they differ.
    """
    if simulator["chunks"] != policy["answered"]:
        raise OperationFailed(
            f"{cell}: the policy sent {policy['answered']} chunks, and the simulator received "
            f"{simulator['chunks']}"
        )
    if simulator["refused"]:
        raise OperationFailed(f"{cell}: the simulator refused messages: {simulator['refused']}")
