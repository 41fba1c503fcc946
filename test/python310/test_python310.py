"""What a robot with ROS 2 Humble has (Python 3.10, NumPy 1): every module can be imported, and the
core does its work.

In an environment of its own (tools/python310.py), without torch and ROS: stubs of these serve the
imports.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.waiting import PROGRAM_S

ENVIRONMENT = Path(sys.prefix) / "python310"
PYTHON = ENVIRONMENT / "bin/python"
# Of the files that need neither torch nor ROS, those that take seconds.
FILES = (
    "wire/test_tensors.py",
    "wire/test_records.py",
    "config/test_settings.py",
    "files/test_errors.py",
    "files/test_atomic.py",
    "files/test_yaml_files.py",
    "files/test_regular_files.py",
    "files/test_private_cache.py",
    "model/test_model_card.py",
    "streams/test_pose_history.py",
    "streams/test_rotation.py",
    "streams/test_joint_history.py",
    "recordings/test_recorded_qos.py",
    "recordings/test_formats.py",
    "recordings/test_sqlite_file.py",
    "recordings/mcap/test_chunks.py",
    "recordings/mcap/test_file.py",
    "recordings/test_bag_folder.py",
    "image/test_patch_geometry.py",
    "image/test_decode.py",
    "image/test_decode_messages.py",
    "image/test_decode_compressed.py",
    "image/test_encodings_complete.py",
    "image/test_compressed.py",
    "image/test_jpeg_file.py",
    "image/test_png_file.py",
    "image/test_picture_files.py",
)


def run(*arguments):
    if not PYTHON.exists():
        why_not = ENVIRONMENT / "why_not.txt"
        pytest.skip(
            why_not.read_text().strip()
            if why_not.exists()
            else f"no {ENVIRONMENT}; `make test` makes it"
        )
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON"))
    }
    return subprocess.run(
        [PYTHON, *arguments], cwd=ROOT, env=clean, text=True, capture_output=True, timeout=PROGRAM_S
    )


def test_every_module_can_be_imported():
    done = run("-m", "test.python310.import_all")
    assert done.returncode == 0, done.stdout + done.stderr
    count, total = map(
        int, re.fullmatch(r"imported (\d+) of (\d+)", done.stdout.strip().splitlines()[-1]).groups()
    )
    assert count == total > 200
    assert (
        "imported" in done.stdout
        and run(
            "-c", "import sys, numpy; print(sys.version_info[:2], numpy.__version__)"
        ).stdout.strip()
        == "(3, 10) 1.26.4"
    )


def test_the_core_does_its_work():
    done = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        *(f"test/{name}" for name in FILES),
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 1000 and "failed" not in done.stdout.splitlines()[-1]
