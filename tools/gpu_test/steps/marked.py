"""The tests that are marked gpu, by pytest."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tools.gpu_test.machine import Machine
from tools.gpu_test.note import Note

ROOT = Path(__file__).resolve().parents[3]
_LINES_KEPT = 60


def run(machine: Machine, note: Note) -> None:
    """All of them have to pass, and some have to run."""
    results = machine.folder / "marked.xml"
    status = run_tests(files_with_marks(ROOT / "test"), results)
    if note.check(results.is_file(), "pytest came to its end", f"status {status}"):
        judge(note, results)


def files_with_marks(folder: Path) -> list[Path]:
    """The test files below ``folder`` with a test for a GPU. Others need not be importable: they
    may need ROS.
    """
    return sorted(path for path in folder.rglob("test_*.py") if "mark.gpu" in path.read_text())


def run_tests(files: list[Path], results: Path) -> int:
    """pytest's status for what is marked gpu in ``files``; ``results`` becomes JUnit's XML, its
    output is printed.
    """
    # The project's own options need a plugin, hence -o.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-o",
        "addopts=-ra",
        f"--junitxml={results}",
        *map(str, files),
    ]
    return subprocess.run(command, cwd=ROOT).returncode


def judge(note: Note, results: Path) -> None:
    """Note how many ran, and each one that failed or was skipped."""
    cases = list(ElementTree.parse(results).iter("testcase"))
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in cases:
        name, outcome = (
            f"{case.get('classname')}.{case.get('name')}",
            next((child for child in case if child.tag in ("failure", "error", "skipped")), None),
        )
        kind = "passed" if outcome is None else "skipped" if outcome.tag == "skipped" else "failed"
        outcomes[kind].append(name)
        if kind == "failed":
            note.check(False, name, "\n".join((outcome.text or "").splitlines()[-_LINES_KEPT:]))
        elif kind == "skipped":
            note.figure(f"skipped: {name}", outcome.get("message", ""))
    note.figure("counts", {kind: len(names) for kind, names in outcomes.items()})
    note.check(
        bool(outcomes["passed"]),
        "some tests ran",
        f"{len(outcomes['passed'])} of {len(cases)} passed",
    )
