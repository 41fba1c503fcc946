"""`embed --ray local` as a user types it: a real Ray with two workers, of which one is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.datasets.embed_runs import contents
from test.datasets.fleet.fleet_runs import hard_bags
from test.waiting import PROGRAM_S, wait_until
from tools.fleet.nodes import WORKER, command_of, processes_below

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    return hard_bags(tmp_path_factory.mktemp("bags"))


@pytest.fixture
def short():
    """A folder for Ray's sockets, whose paths may have 107 characters, and nothing of it left."""
    folder = Path(tempfile.mkdtemp(prefix="vp", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def command(checkpoint, bags, out, *more):
    options = ["--params", ROOT / "config/demo.yaml", "--checkpoint", checkpoint]
    options += ["--backend", "torch", "--precision", "float32", "--shard-frames", 4, "--out", out]
    program = [sys.executable, "-m", "vit_perception.cli.main", "embed", *bags, *options, *more]
    return [str(part) for part in program]


def environment(short):
    given = {"RAY_TMPDIR": str(short), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    # What another cluster on this machine has set must not be met.
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | given


def test_two_workers_of_which_one_is_killed_make_the_files_of_one_process(
    bags, tiny_classifier, tmp_path, short
):
    broken = tmp_path / "broken"
    shutil.copytree(bags[0], broken)
    (file,) = broken.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-100])
    given = [*bags[:2], broken, *bags[2:]]
    log = open(tmp_path / "log", "wb")  # noqa: SIM115
    driver = subprocess.Popen(
        command(tiny_classifier, given, tmp_path / "fleet", "--ray", "local"),
        stdout=log,
        stderr=log,
        env=environment(short),
        cwd=ROOT,
    )
    log.close()
    told = (tmp_path / "log").read_text
    below = set()
    try:

        def at_work():
            below.update(processes_below(driver.pid))
            assert driver.poll() is None, told()
            return list((tmp_path / "fleet/.fleet").glob("*/journal.jsonl"))

        wait_until(at_work, "a shard", told, limit_s=PROGRAM_S)
        workers = [pid for pid in below if re.search(WORKER, command_of(pid))]
        os.kill(workers[0], signal.SIGKILL)
        status = driver.wait(PROGRAM_S)
    finally:
        below.update(processes_below(driver.pid))
        driver.kill()
        driver.wait()
    assert status == 1 and "failed: broken: " in told(), told()
    # Ray ends with its driver.
    wait_until(lambda: not any("ray" in command_of(pid) for pid in below), "the end of Ray")
    manifest = json.loads((tmp_path / "fleet/manifest.json").read_text())
    assert manifest["complete"] and [row["source"] for row in manifest["failed"]] == [2]

    # The same without the broken bag: all numbers of sources after it are one less.
    single = subprocess.run(
        command(tiny_classifier, bags, tmp_path / "one"),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert single.returncode == 0, single.stderr
    expected = json.loads((tmp_path / "one/manifest.json").read_text())
    assert [s["frames"] for s in manifest["shards"]] == [s["frames"] for s in expected["shards"]]
    # Files before it are the same byte for byte.
    first = [s["file"] for s in expected["shards"] if s["source"] < 2]
    made, there = contents(tmp_path / "fleet"), contents(tmp_path / "one")
    assert first and all(made[name] == there[name] for name in first)
    assert set(made) == set(there)


def test_no_cluster_is_one_line(bags, tiny_classifier, tmp_path, short):
    done = subprocess.run(
        command(tiny_classifier, bags[:1], tmp_path / "out", "--ray", "auto"),
        capture_output=True,
        text=True,
        env=environment(short),
        cwd=ROOT,
        timeout=PROGRAM_S,
    )
    assert done.returncode == 1 and "--ray is auto: " in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
