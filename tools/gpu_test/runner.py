"""A part's steps, one after the other, each in a process of its own; the report is whole after
each.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tools.gpu_test.needs import missing_packages
from tools.gpu_test.plan import BUDGET_S, Step
from tools.gpu_test.report import FAILED, SKIPPED, Report, line

ROOT = Path(__file__).resolve().parent.parent.parent
_LINES_KEPT = 40
_END_S = 5.0  # kept of a step's time, so that it can end by itself
Now = Callable[[], float]


@dataclass(frozen=True)
class Settings:
    """``folder`` is for what steps make; it goes when the run ends."""

    device: str
    folder: Path
    checkpoint: str = "demo"


def run_part(
    steps: tuple[Step, ...],
    budget_s: float,
    settings: Settings,
    report: Report,
    say: Callable[[str], None] = print,
    now: Now = time.monotonic,
) -> bool:
    """Run ``steps`` until the budget is spent; whether something ran and nothing failed.

    A larger budget than the usual one is for a slower machine: each step may take as much longer.
    """
    begun_s = now()
    for step in steps:
        left_s = budget_s - (now() - begun_s)
        missing = missing_packages(step.needs)
        if missing:
            result = left_out(step, f"Python package {', '.join(missing)} is not installed")
        elif left_s < step.least_s:
            result = left_out(
                step,
                f"{max(left_s, 0):.0f} s of the part's {budget_s:g} s were left, and it needs "
                f"{step.least_s} s",
            )
        else:
            result = run_step(
                step, min(step.limit_s * max(1.0, budget_s / BUDGET_S), left_s), settings
            )
        report.add({**result, "what": step.what})
        say(line(result))
    return report.close()


def left_out(step: Step, why: str) -> dict:
    """The result of a step that is not begun."""
    return {"name": step.name, "status": SKIPPED, "why": why}


def run_step(step: Step, limit_s: float, settings: Settings) -> dict:
    """The result of ``step``, in a process that is ended after ``limit_s`` with all that it has
    started.
    """
    path = settings.folder / f"{step.name.replace('/', '-')}.json"
    begun_s = time.monotonic()
    given = [
        step.name,
        "--function",
        step.function,
        "--argument",
        step.argument,
        "--out",
        str(path),
    ]
    status, output = run_process(
        [*given, "--deadline", f"{begun_s + limit_s - _END_S:.1f}"], limit_s, settings
    )
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        result = {"name": step.name, "status": FAILED, "checks": [], "figures": {}}
    if status is None:
        result |= {"status": FAILED, "why": f"stopped after {limit_s:.0f} s"}
    elif status != 0:
        result |= {"status": FAILED, "why": f"its process ended with {status}"}
    if result["status"] == FAILED:
        result["output"] = output.splitlines()[-_LINES_KEPT:]
    return result | {"seconds": time.monotonic() - begun_s}


def facts_of(settings: Settings) -> dict:
    """What the machine is, asked in a process of its own: this one keeps nothing on the GPU."""
    path = settings.folder / "facts.json"
    status, output = run_process(["facts", "--out", str(path)], 120, settings)
    if status != 0:
        last = output.strip().splitlines()[-1:] or ["it says nothing"]
        return {
            "device": "",
            "why_not": f"torch or the GPU does not start (status {status}): {last[0]}",
        }
    return json.loads(path.read_text())


def run_process(arguments: list[str], limit_s: float, settings: Settings) -> tuple[int | None, str]:
    """(exit status of ``tools.gpu_test.step``, what it printed); None where it had to be ended."""
    command = [
        sys.executable,
        "-m",
        "tools.gpu_test.step",
        *arguments,
        "--device",
        settings.device,
        "--folder",
        str(settings.folder),
        "--checkpoint",
        settings.checkpoint,
    ]
    log = settings.folder / "output.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what a step has started ends with it
            process.wait()
    return status, log.read_text(errors="replace")
