"""`vit-perception fit --method finetune`: the whole model, killed runs, and what goes wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest

from test.cli.fitting import COMMAND, finetune, fit, own_cache_and_threads, pictures  # noqa: F401
from test.conftest import TRAIN_BAG
from test.training.conftest import write_digits
from test.waiting import PROGRAM_S, run_program
from vit_perception.checkpoints.sources import load_checkpoint


def test_a_model_is_trained_on_a_bag_and_on_pictures(tiny_checkpoint, pictures, tmp_path, capsys):
    out = tmp_path / "bag_model"
    assert (
        fit(
            "--bag",
            TRAIN_BAG,
            "--topic",
            "/wrist/image/compressed",
            "--every",
            6,
            "--method",
            "finetune",
            "--checkpoint",
            tiny_checkpoint,
            "--epochs",
            2,
            "--precision",
            "bfloat16",
            "--out",
            out,
        )
        == 0
    )
    report = json.loads((out / "report.json").read_text())
    assert report["labels"] == ["carry", "grasp", "place", "reach"] and report["pictures"] == 50
    assert (
        report["epochs"] == len(report["history"]) == 2 and report["recipe"]["layer_decay"] == 0.75
    )
    loaded = load_checkpoint(str(out))
    assert (
        loaded.card.labels == ("carry", "grasp", "place", "reach")
        and loaded.model.config.pooling == "cls_mean"
    )
    assert (
        np.sum(report["held_out"]["confusion"])
        == report["held_out"]["pictures"]
        == 50 - report["trained_on"]
    )
    assert "model.checkpoint: " in capsys.readouterr().out
    # And that one is what the next one starts from.
    second = tmp_path / "second"
    assert (
        fit(
            "--images",
            pictures,
            "--method",
            "finetune",
            "--checkpoint",
            out,
            "--epochs",
            2,
            "--flip",
            "--learning-rate",
            1e-2,
            "--test-images",
            pictures,
            "--out",
            second,
        )
        == 0
    )
    report = json.loads((second / "report.json").read_text())
    assert report["start"] == "bag_model" and report["test_images"]["pictures"] == 16
    assert (second / "curves.png").is_file() and len(
        (second / "metrics.csv").read_text().splitlines()
    ) == 3


# argv: a function of the module, which of its calls is the last one that ends, and the arguments of
# fit.
KILLED = """
import os, signal, sys
from vit_perception.cli.main import main
from vit_perception.training import finetune
name, last = sys.argv[1], int(sys.argv[2])
function, calls = getattr(finetune, name), []
def call(*arguments):
    function(*arguments)
    calls.append(1)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(finetune, name, call)
main(["fit", *sys.argv[3:]])
"""


def kill_at(name, call, arguments):
    """Run fit in a process that is killed behind that call of ``finetune.name``."""
    done = run_program([sys.executable, "-c", KILLED, name, call, *arguments])
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(tmp_path, capsys):
    folder = write_digits(tmp_path / "digits", 400)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = partial(finetune, "--images", folder, epochs=12)
    assert fit(*options(out=whole)) == 0
    kill_at("write_metrics", 3, options(out=killed))
    done = len((killed / "metrics.csv").read_text().splitlines()) - 1
    assert done == 3 and not (killed / "report.json").exists()
    assert fit(*options(out=killed)) == 1
    said = capsys.readouterr().err
    assert "--out: " in said and said.endswith("\nhint: --resume continues the run\n")
    assert fit(*options("--resume", out=killed)) == 0
    assert f"of 12, {done} of them from before" in capsys.readouterr().out
    assert (whole / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
    reports = [json.loads((out / "report.json").read_text()) for out in (whole, killed)]
    for report in reports:
        report.pop("seconds")
        for row in report["history"]:
            row.pop("seconds")
    assert reports[0] == reports[1]
    assert fit(*options("--resume", out=killed)) == 0  # nothing is left to do
    (folder / "3").rename(folder / "three")
    assert fit(*options("--resume", out=killed)) == 1
    assert "labels: '0, 1, 2, 3" in capsys.readouterr().err


def test_a_run_killed_in_its_first_epoch_is_taken_up(tmp_path, capsys):
    folder, out = write_digits(tmp_path / "digits", 120), tmp_path / "out"
    options = partial(finetune, "--images", folder, epochs=1, batch=1, out=out)
    kill_at("write_description", 1, options())
    assert (
        (out / "README.md").is_file()
        and (out / "run_state.pt").is_file()
        and not (out / "metrics.csv").exists()
    )
    (out / "config.json").unlink()  # as after a kill in the middle of the description
    assert fit(*options()) == 1
    said = capsys.readouterr().err
    assert "--out: " in said and said.endswith("\nhint: --resume continues the run\n")
    assert fit(*options("--resume")) == 0
    assert json.loads((out / "report.json").read_text())["epochs"] == 1
    assert load_checkpoint(str(out)).card.labels == tuple("0123456789")


def test_a_full_disk_ends_in_one_line_and_no_half_file(tmp_path):
    folder, out = write_digits(tmp_path / "digits", 40), tmp_path / "out"
    # Files may grow to 100 kB; the weights take 140 kB.
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = subprocess.run(
        COMMAND + finetune("--images", folder, epochs=1, out=out),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=PROGRAM_S,
        env=os.environ,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert (
        "model.safetensors cannot be written: " in done.stderr
        and "accepted: a writable folder" in done.stderr
    )
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "config.json",
        "preprocessor_config.json",
        "run.lock",
        "run_state.pt",
    ]


@pytest.mark.parametrize(
    "what, said",
    [
        ("one class", "the labels are dark; accepted: at least two classes"),
        ("unknown test label", "label bright is only in what is tested on; accepted: dark, grey"),
        ("output under a file", "cannot be written"),
        ("nothing", "holds no pictures"),
    ],
)
def test_pictures_that_cannot_be_trained_on_are_named(pictures, tmp_path, capsys, what, said):
    out, test, folder = tmp_path / "out", [], pictures
    if what == "one class":
        (pictures / "bright").rename(tmp_path / "elsewhere")
    elif what == "unknown test label":
        folder = tmp_path / "train"
        for label, level in (("dark", 0), ("grey", 99)):
            (folder / label).mkdir(parents=True)
            for k in range(2):
                cv2.imwrite(str(folder / label / f"{k}.png"), np.full((8, 8, 3), level, np.uint8))
        test = ["--test-images", pictures]
    elif what == "output under a file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file/out"
    else:
        folder = tmp_path / "empty"
        folder.mkdir()
    assert fit(*finetune("--images", folder, *test, epochs=1, out=out)) == 1
    assert said in capsys.readouterr().err
