"""What commands print of strangers' names: no escapes, no end of the command, and not endless."""

import subprocess
import sys

import numpy as np
import pytest

from test.cli.test_cli import run
from test.waiting import PROGRAM_S
from vit_perception.cli.pipeline_options import drop_lines, skip_lines
from vit_perception.heads.fit import Evaluation
from vit_perception.viewing.fit_report import print_unreadable

NASTY = "\x1b[2J\x1b]0;owned\x07\0\ud800" + "m" * 100_000


def test_names_in_lines_of_dropped_and_left_out_messages_print():
    lines = [
        *drop_lines({NASTY: 1}, {NASTY: NASTY}),
        *skip_lines([{"topic": NASTY, "reason": "nan", "count": 3, "first": NASTY}]),
    ]
    assert all(line.isprintable() and len(line) < 5000 for line in lines) and "\\x1b[2J" in lines[0]


def test_names_of_pictures_and_labels_print(capsys):
    print_unreadable([{"picture": NASTY, "why": NASTY}])
    print(Evaluation((NASTY, "can"), np.eye(2, dtype=int)).table())
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable() and len(said) < 6000 and "\\x1b[2J" in said


@pytest.mark.parametrize("subcommand", ["replay", "inspect", "embed", "explain"])
def test_a_path_of_escapes_is_one_line_that_prints(subcommand, tmp_path):
    out = [] if subcommand == "replay" else ["--out", tmp_path / "out"]
    done = run(subcommand, tmp_path / "no\x1b[2J\udcff", *out, PYTHONIOENCODING="ascii:strict")
    assert (
        done.returncode == 1
        and "Traceback" not in done.stderr
        and "\x1b" not in done.stderr + done.stdout
    )
    assert (
        done.stderr.startswith(f"vit-perception {subcommand}: ")
        and len(done.stderr.splitlines()) == 1
    )


def test_a_terminal_without_utf8_does_not_end_a_command():
    program = (
        "from vit_perception.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print('\\ud800 caf\\xe9')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        env={"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0 and done.stdout.endswith("\\ud800 caf\\xe9\n"), done.stderr
