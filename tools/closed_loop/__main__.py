"""make closed-loop: train policies on demonstrations, and let them do the task over DDS.

Every step is kept in --work and not done again; the same command resumes after a break. Prints the
table, and writes it as JSON beside the cells of earlier commands. Exit status 1 if a process fails
or the accounts do not close.
"""

import datetime
import json
import os
import shlex
import signal
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import yaml

from tools.closed_loop import stages
from tools.closed_loop.cell import Cell, EncoderNode, chosen, delays_of, run_cell
from tools.closed_loop.forms import FORMS, TRAINED_ON
from tools.closed_loop.interface import CONDITIONS, TASKS, TROUBLES
from tools.closed_loop.plan import cells_of
from tools.closed_loop.policies.train import ITERATIONS, POLICIES
from tools.closed_loop.recipe import FIRST_TEST_SEED, RECIPE
from tools.closed_loop.results import merged, row, table
from tools.closed_loop.work import ROOT, Work
from vit_perception.cli.processes import use_large_data_profile
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import UserError

SAY_EVERY_S = 5.0
PACKAGES = ("torch", "openvino", "numpy", "ros-rclpy")


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(
        prog="python -m tools.closed_loop",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(default: all)")
    add("--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="(default: all)")
    add("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    add("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="of the node's tokens")
    add("--troubles", nargs="+", choices=TROUBLES, default=list(TROUBLES), help="in the loop")
    add("--seeds", type=int, default=20, help="episodes of a cell (default: %(default)s)")
    add("--longest-steps", type=int, help="of an episode, 0.1 s each (default: the task's)")
    add("--demos", type=int, default=60, help="demonstrations of a task (default: %(default)s)")
    add("--training-seeds", type=int, default=1, help="of each policy (default: %(default)s)")
    add("--iterations", type=int, default=ITERATIONS, help="of training (default: %(default)s)")
    add("--as-is", action="store_true", help="run nothing; write what has been run so far")
    add("--real-time", action="store_true", help="the robot does not wait for the policy")
    add("--film", action="store_true", help="keep a picture of each control step, for film.py")
    add("--checkpoint", default="demo", help="the encoder (default: %(default)s)")
    add("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="of the node")
    add("--work", type=Path, default=ROOT / "closed_loop_output", help="(default: %(default)s)")
    add("--sim-python", type=Path, default=ROOT / ".venv-sim/bin/python")
    add("--out", type=Path, default=ROOT / "benchmarks/results/closed_loop.json")
    return parser.parse_args(arguments)


class Progress:
    """Says how many episodes are done, and how long the rest will take."""

    def __init__(self, total: int):
        self._total = total
        self._before = 0  # episodes of earlier cells
        self._first: int | None = None  # episodes when the clock began
        self._begun_s = 0.0
        self._said_s = 0.0

    def say(self, cell: Cell, here: int) -> None:
        """Take that ``here`` episodes of ``cell`` are done."""
        now_s = time.monotonic()
        done = self._before + here
        if self._first is None:
            self._first = done
            self._begun_s = now_s
        if now_s - self._said_s < SAY_EVERY_S:
            return
        self._said_s = now_s
        left = ""
        if done > self._first:
            left_s = (now_s - self._begun_s) / (done - self._first) * (self._total - done)
            left = f", {left_s / 60:.0f} min left"
        print(f"  {cell}: {here} episodes; {done} of {self._total}{left}", flush=True)

    def end(self, count: int) -> None:
        """Take that a cell is complete, with ``count`` episodes."""
        self._before += count


def prepare(work: Work, args: Namespace) -> dict[tuple, Path]:
    """Make demonstrations, features and policies; return the policies' files."""
    policies = {}
    for task in args.tasks:
        stages.record(work, task, args.demos)
        rows_here = [POLICIES[name] for name in args.policies]
        if any(each.augmented for each in rows_here):
            stages.embed(work, task, args.demos, augmented=True)
        if any(each.on_tokens and not each.augmented for each in rows_here):
            stages.embed(work, task, args.demos, augmented=False)
            trained_on = {TRAINED_ON[name] for name in args.policies if name in TRAINED_ON}
            for form in sorted({*args.forms, *trained_on}):
                if directions := FORMS[form].directions:
                    stages.learn_basis(work, task, args.demos, directions)
            for form in sorted(trained_on):
                stages.embed(work, task, args.demos, augmented=False, form=form)
        for name in args.policies:
            for seed in range(args.training_seeds):
                path = stages.train(work, task, name, args.demos, seed, args.iterations)
                policies[task, name, seed] = path
    return policies


def run(args: Namespace) -> list[dict]:
    """Run everything, and return the rows of the table."""
    work = Work(
        args.work,
        args.sim_python,
        args.checkpoint,
        dict(_parameter(text) for text in args.parameter),
    )
    if args.as_is:
        return rows_as_they_are(work, args)
    policies = prepare(work, args)
    cells = cells_of(args)
    seeds = (FIRST_TEST_SEED, args.seeds)
    progress = Progress(len(cells) * args.seeds)
    rows: list[dict] = []
    node = EncoderNode(work.folder / "node.log")
    try:
        for cell in cells:
            policy = policies[cell.task, cell.policy, cell.training_seed]
            needs_node = POLICIES[cell.policy].on_tokens
            episodes = run_cell(
                work,
                cell,
                policy,
                seeds,
                node if needs_node else None,
                lambda here, cell=cell: progress.say(cell, here),
            )
            progress.end(len(episodes))
            rows.append(row(cell, episodes) | delays_of(work, cell, policy))
            found = rows[-1]
            print(f"{cell}: {found['successes']} of {found['episodes']}", flush=True)
            # After each cell: what is there survives whatever comes.
            write(args, rows)
    finally:
        node.stop()
    return rows


def rows_as_they_are(work: Work, args: Namespace) -> list[dict]:
    """Return the rows of all cells that have episodes, complete or not."""
    rows = []
    for cell in cells_of(args):
        policy = work.policy(cell.task, cell.policy, cell.demonstrations, cell.training_seed)
        if policy.exists():
            out = work.episodes(policy, cell.task, cell.condition, cell.variant)
            if episodes := chosen(out, (FIRST_TEST_SEED, args.seeds)):
                rows.append(row(cell, episodes) | delays_of(work, cell, policy))
    write(args, rows)
    return rows


def _parameter(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def write(args: Namespace, rows: list[dict]) -> None:
    """Write the table as JSON; cells of other commands stay, if they were made in the same way."""
    made = {
        "versions": {name: version(name) for name in PACKAGES},
        "checkpoint": args.checkpoint,
        "recipe": asdict(RECIPE),
        "iterations": args.iterations,
    }
    today = datetime.date.today().isoformat()
    command = shlex.join(["python", "-m", "tools.closed_loop", *sys.argv[1:]])
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    others = before.get("cells", []) if made.items() <= before.items() else []
    cells = merged(others, rows)
    result = {"date": today, "command": command, **made, "cells": cells}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, lambda file: file.write_text(json.dumps(result, indent=1) + "\n"))


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    # Whoever ends this program also ends the processes that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    use_large_data_profile()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        rows = run(args)
    except UserError as error:
        print(f"closed loop: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr, flush=True)
        return 130
    print(f"\n{table(rows)}\n\nwritten: {args.out}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
