"""Waiting for what happens, not for seconds: the limits only end a test that hangs, and say nothing
of speed.

A machine may be many times slower than the one that a test was written on, and busy besides.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vit_perception.cli.processes import Child

HANG_S = 120.0  # for one event
PROGRAM_S = 900.0  # for a program that does a job and ends


def wait_until(
    condition: Callable[[], Any],
    what: str = "it",
    told: Callable[[], str] = str,
    step: Callable[[], Any] = lambda: time.sleep(0.01),
    limit_s: float = HANG_S,
) -> Any:
    """What ``condition`` gives once it is something true. ``step`` is done between two looks at it.

    Raises AssertionError with ``what`` was waited for, and what ``told()`` says then, after
    ``limit_s``.
    """
    deadline_s = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline_s, (
            f"{what} did not happen within {limit_s:g} s\n{told()}"
        )
        step()
    return result


def wait_for_words(child: Child, words: str) -> None:
    """Wait until ``child`` has printed ``words``. Raises AssertionError where it ends without."""

    def said() -> bool:
        ended = child.returncode is not None  # before its output is read: it may still write
        found = words in child.log.read_text(errors="replace")
        assert found or not ended, (
            f"it ended with {child.returncode} before it said {words!r}:\n{child.tail()}"
        )
        return found

    wait_until(said, repr(words), child.tail)


def status_of(child: Child) -> int:
    """The exit status of ``child``, once it has ended by itself."""
    wait_until(lambda: child.returncode is not None, "its end", child.tail, limit_s=PROGRAM_S)
    return child.stop()


def handles(pid: int, sent: signal.Signals) -> bool:
    """Whether the process ``pid`` has a handler of its own for that signal. Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (sent - 1) & 1)


def run_program(arguments: list, **options) -> subprocess.CompletedProcess:
    """``subprocess.run`` with its output as text, for a program that ends by itself."""
    given = {"text": True, "capture_output": True, "timeout": PROGRAM_S} | options
    return subprocess.run([str(argument) for argument in arguments], **given)
