"""The rooms outside ros/ and cli/ are tested without ROS: their tests import none of it, and some
run with it hidden. All of them do by `make core-test`.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.waiting import run_program
from test.without_ros import NEED_ROS, is_of_ros

QUICK = ("test/wire", "test/streams/test_pose_history.py", "test/pipeline/timing/test_latencies.py")
TESTS = sorted(
    path
    for path in (ROOT / "test").rglob("*.py")
    if path.relative_to(ROOT / "test").parts[0] not in NEED_ROS
    and path.name.startswith(("test_", "conftest"))
)


def file_of(module: str) -> Path | None:
    """The file of a module of this project."""
    path = ROOT / module.replace(".", "/")
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((p for p in found if p.exists()), None)


@cache
def imported_at_once(path: Path) -> frozenset[str]:
    """What importing ``path`` imports: at its top level, and so on through this project's files."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    inner = {name: file_of(name) for name in names}
    return frozenset(names).union(*(imported_at_once(p) for p in inner.values() if p))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "test")))
def test_importing_a_test_of_the_core_imports_no_ros(path):
    assert not {name for name in imported_at_once(path) if is_of_ros(name)}


def test_the_core_is_tested_where_ros_is_hidden():
    options = ("-q", "-n0", "-p", "no:cacheprovider", "-p", "test.without_ros")
    done = run_program([sys.executable, "-m", "pytest", *options, *QUICK], cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
