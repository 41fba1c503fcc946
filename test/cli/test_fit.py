"""`vit-perception fit`, as a user types it: the heads, the whole model, and what goes wrong."""

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
import torch

from test.conftest import TRAIN_BAG
from test.training.conftest import write_digits
from test.waiting import PROGRAM_S, run_program
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.main import main

COMMAND = [sys.executable, "-m", "vit_perception.cli.main", "fit"]


@pytest.fixture(autouse=True)
def own_cache_and_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pictures(tmp_path):
    """Eight dark and eight bright noisy pictures."""
    for label, level in (("dark", 30), ("bright", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for k in range(8):
            noise = np.random.default_rng(k).integers(-20, 20, (40, 60, 3)) + level
            cv2.imwrite(str(tmp_path / "pictures" / label / f"{k}.jpg"), noise.astype(np.uint8))
    return tmp_path / "pictures"


def fit(*arguments):
    return main(["fit", *map(str, arguments)])


def finetune(*arguments, out, **options):
    given = {
        "method": "finetune",
        "variant": "test",
        "image-size": 32,
        "learning-rate": 3e-3,
        **options,
    }
    flat = [
        part
        for name, value in given.items()
        if value is not None
        for part in (f"--{name}", str(value))
    ]
    return [*map(str, arguments), *flat, "--out", str(out)]


def test_a_second_fit_says_that_its_features_are_known(pictures, tiny_checkpoint, tmp_path, capsys):
    (pictures / "dark/broken.jpg").write_text("no picture")
    options = (
        "--images",
        pictures,
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
        "--out",
        tmp_path / "head",
    )
    assert fit(*options) == 0
    said = capsys.readouterr().out
    assert (
        "16 pictures, 0 of them from the cache" in said
        and "held out: accuracy 1.000 of 4 pictures" in said
    )
    assert "1 pictures cannot be read and are left out:\n  dark/broken.jpg: " in said
    assert fit(*options, "--family", "vit") == 1  # taken at its word
    assert "all sizes of a vit model" in capsys.readouterr().err
    assert (
        fit(*options, "--method", "nearest_mean", "--test-images", pictures, "--family", "dinov2")
        == 0
    )
    said = capsys.readouterr().out
    assert "train: 16 pictures, 16 of them from the cache" in said
    report = json.loads((tmp_path / "head/report.json").read_text())
    assert report["features_from_cache"] == {"train": 16, "test_images": 16}
    assert [u["picture"] for u in report["unreadable"]] == ["dark/broken.jpg"] * 2
    assert report["test_images"] == {"accuracy": 1.0, "pictures": 16, "confusion": [[8, 0], [0, 8]]}


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


@pytest.mark.parametrize(
    "what, said",
    [
        (
            "the pictures",
            "pictures holds bright, dark; accepted: a new or an empty folder, or a head",
        ),
        ("half a head", "out holds labels.json, which is no whole head"),
        ("a file", "file/out cannot be written"),
        ("one class", "the labels are dark; accepted: at least two classes"),
        ("unknown test label", "label grey is only in what is tested on; accepted: bright, dark"),
    ],
)
def test_a_head_that_cannot_be_saved_or_fitted_is_refused_before_any_encoding(
    pictures, tmp_path, capsys, what, said
):
    out, more = tmp_path / "out", []
    if what == "the pictures":
        out = pictures
    elif what == "half a head":
        out.mkdir()
        (out / "labels.json").write_text('["theirs"]')
    elif what == "a file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file/out"
    elif what == "one class":
        (pictures / "bright").rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "test/grey").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "test/grey/0.png"), np.full((8, 8, 3), 99, np.uint8))
        more = ["--test-images", tmp_path / "test"]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    # The checkpoint is looked for after all that.
    assert fit("--images", pictures, "--checkpoint", "/no/model", "--out", out, *more) == 1
    assert said in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_head_is_bound_to_the_network_size_that_it_was_fitted_on(
    pictures, tiny_checkpoint, tmp_path, capsys
):
    from vit_perception.config.settings import (
        CameraSettings,
        EncoderSettings,
        EngineSettings,
        ModelSettings,
    )
    from vit_perception.pipeline.pipeline import Pipeline

    options = (
        "--images",
        pictures,
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
        "--out",
        tmp_path / "head",
    )
    assert fit(*options, "--network-size", "28x42") == 0
    for size, fits in (("28x42", True), ("", False)):
        settings = EncoderSettings(
            (CameraSettings("camera", "files", "compressed", head=str(tmp_path / "head")),),
            model=ModelSettings(str(tiny_checkpoint), network_size=size),
            engine=EngineSettings("torch"),
        )
        if fits:
            Pipeline.open(settings).close()
        else:
            with pytest.raises(ValueError, match="encoder"):
                Pipeline.open(settings)
    capsys.readouterr()
    for size in ("28x43", "large", "0x0"):
        assert fit(*options, "--network-size", size) == 1
        assert f"'model.network_size' is '{size}'; accepted: " in capsys.readouterr().err


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
    "arguments, said",
    [
        (("--epochs", 3), "--epochs has no meaning with --method logistic"),
        (
            ("--resume", "--variant", "test"),
            "--variant, --resume has no meaning with --method logistic",
        ),
        (
            ("--method", "finetune", "--backend", "torch"),
            "--backend has no meaning with --method finetune",
        ),
        (
            ("--method", "finetune", "--variant", "test", "--checkpoint", "demo"),
            "--variant and --checkpoint are both",
        ),
        (("--method", "finetune", "--image-size", 32), "--image-size is given without --variant"),
        (("--method", "finetune", "--image-size", 0), "--image-size is given without --variant"),
        (
            ("--method", "finetune", "--variant", "test", "--image-size", 0),
            "--image-size is 0; accepted: multiples of the patch size 8",
        ),
        (("--epochs", 0), "--epochs has no meaning with --method logistic"),
        (
            ("--method", "finetune", "--network-size", "32x32"),
            "--network-size has no meaning with --method finetune",
        ),
        (("--method", "finetune", "--variant", "huge"), "--variant is 'huge'; accepted: test"),
        (
            ("--method", "finetune", "--variant", "test", "--epochs", 0),
            "--epochs is 0; accepted: 1 or more",
        ),
        (("--method", "finetune", "--variant", "test", "--threads", 0), "--threads is 0"),
        (
            ("--method", "finetune", "--variant", "test", "--device", "gpu"),
            "--device is 'gpu'; accepted: cpu, cuda or cuda:<n>\n",
        ),
        (
            ("--method", "finetune", "--variant", "test", "--family", "vit"),
            "--variant and --family are both",
        ),
        (("--held-out", 1.5), "--held-out is 1.5"),
        (("--test-bag", "/no/bag"), "--test-bag needs --topic"),
    ],
)
def test_an_option_that_cannot_hold_is_refused_at_once(pictures, tmp_path, capsys, arguments, said):
    assert fit("--images", pictures, "--out", tmp_path / "out", *arguments) == 1
    assert said in capsys.readouterr().err


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
