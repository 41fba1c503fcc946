"""The console script, as a user types it."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from test.waiting import PROGRAM_S, run_program
from vit_perception.cli.doctor import images, installed_version, profile
from vit_perception.cli.main import main
from vit_perception.cli.processes import PROFILE_VARIABLES
from vit_perception.config.backends import BACKENDS
from vit_perception.files.errors import OperationFailed
from vit_perception.heads.classification import load_head
from vit_perception.ros.health.image_trial import TrialResult


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "vit_perception.cli.main", *map(str, arguments)],
        text=True,
        capture_output=True,
        timeout=PROGRAM_S,
        env=os.environ | environment,
    )


def test_doctor_finds_what_is_here_and_notices_the_missing_profile(monkeypatch):
    done = run("doctor")  # with the profile, as all tests have it
    assert re.search(
        r"^images       640×480 bgr8 \(0\.9 MB\), best effort, 30 Hz, from another process: "
        r"\d+ of 60 arrived, after \d+ ms \(median\)$",
        done.stdout.replace("WARNING: ", ""),
        re.MULTILINE,
    ), done.stdout
    runtimes = (
        done.stdout[done.stdout.index("runtimes, in the order") :].split("\n\n")[0].splitlines()[1:]
    )
    for backend, line in zip(BACKENDS, runtimes, strict=True):
        assert re.fullmatch(rf"{backend.label} +(yes  \S+ on .+: .*float32.*|no   .+)", line), line
    assert (
        done.returncode == 0
        and "openvino" in done.stdout
        and "fastdds_large_data.xml" in done.stdout
    )
    assert re.search(
        r"^simplejpeg +(\d|not installed: JPEGs that are damaged inside)", done.stdout, re.MULTILINE
    )
    assert f"\nDDS profile  {profile()}\n" in done.stdout
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert "not set: half or more of best-effort images above 0.5 MB" in profile()
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/no/profile.xml")
    assert "does not exist" in profile()


def test_doctor_says_why_a_module_that_is_there_does_not_load(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in {
        "of_cuda": "raise ImportError('libcudss.so.0: cannot open shared object file')",
        "of_numpy": "raise AttributeError('_ARRAY_API not found')",
        "half": "import absent",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert installed_version("of_cuda") == (
        "",
        "does not load: libcudss.so.0: cannot open shared object file",
    )
    assert installed_version("of_numpy") == ("", "does not load: _ARRAY_API not found")
    assert installed_version("half") == (
        "",
        "does not load: No module named 'absent'",
    ) and installed_version("absent") == (
        "",
        "not installed",
    )


@pytest.mark.parametrize(
    "results, said",
    [
        ([(60, 8.4)], r"640×480 .*: 60 of 60 arrived, after 8 ms \(median\)"),
        (
            [(1, 9.0), (59, 8.0)],
            r"WARNING: 640×480 .*: 1 of 60 arrived, after 9 ms \(median\)\n +with \w+=/.*/config/"
            r"fastdds_large_data\.xml, at both ends: 59 of 60 arrived, after 8 ms \(median\)",
        ),
        ([(0, float("nan")), (0, float("nan"))], r"WARNING: .*: 0 of 60 arrived\n.*: 0 of 60 .*"),
        ([None], r"not measured: no process"),
    ],
)
def test_doctor_says_how_many_images_arrive_and_tries_the_profile_if_few_do(
    monkeypatch, results, said
):
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    environments = []

    def try_out(trial, environment):
        environments.append(environment)
        result = results[len(environments) - 1]
        if result is None:
            raise OperationFailed("no process")
        return TrialResult(sent=60, arrived=result[0], median_ms=result[1], largest_ms=result[1])

    assert re.fullmatch(said, images(try_out))
    assert environments[0] is None and len(environments) == len(results)
    if len(results) == 2:
        assert any(environments[1].get(name) for name in PROFILE_VARIABLES)
    # A profile of the user's own that loses images is not replaced.
    monkeypatch.setenv(PROFILE_VARIABLES[0], "/my/profile.xml")
    environments.clear()
    images(try_out)
    assert len(environments) == 1


LOSES_THE_GPU = """
import sys
from vit_perception.cli.main import main
from vit_perception.engines.torch_engine import TorchEngine
run, left = TorchEngine._run, int(sys.argv.pop(1))
def lose(engine, images):
    global left
    left -= 1
    if left < 0:
        raise RuntimeError("CUDA error: device-side assert triggered")
    return run(engine, images)
TorchEngine._run = lose
sys.exit(main())
"""


@pytest.mark.parametrize(
    "runs, words",
    [(0, ["build", "--backend", "torch"]), (6, ["embed", DEMO_BAG, "--backend", "torch"])],
    ids=["while it opens", "in the middle"],
)
def test_a_tool_that_loses_the_gpu_says_so_in_a_line_and_ends_with_75(
    tmp_path, tiny_checkpoint, runs, words
):
    options = {
        "build": ["--precision", "fp32"],
        "embed": ["--precision", "float32", "--out", tmp_path / "features"],
    }
    done = run_program(
        [
            sys.executable,
            "-c",
            LOSES_THE_GPU,
            runs,
            *words,
            *options[words[0]],
            "--checkpoint",
            tiny_checkpoint,
        ]
    )
    assert done.returncode == 75, done.stderr
    said = [line for line in done.stderr.splitlines() if "CUDA error" in line]
    assert len(said) == 1 and said[0].startswith(
        f"vit-perception {words[0]}: the GPU is lost to this process (CUDA"
    )
    assert said[0].endswith("Exit status 75: start it again") and "Traceback" not in done.stderr


def test_fit_on_a_bag_and_on_another_ones_frames(tmp_path, tiny_checkpoint):
    done = run(
        "fit",
        "--bag",
        TRAIN_BAG,
        "--topic",
        "/wrist/image/compressed",
        "--test-bag",
        DEMO_BAG,
        "--every",
        4,
        "--out",
        tmp_path / "head",
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "head/report.json").read_text())
    assert report["labels"] == ["carry", "grasp", "place", "reach"] and report["pictures"] == 75
    confusion = np.array(report["test_bag"]["confusion"])
    assert confusion.sum() == report["test_bag"]["pictures"] == 38
    assert report["test_bag"]["accuracy"] == round(np.trace(confusion) / 38, 4)
    # Random weights tell places apart all the same; chance on these four is about 0.3.
    assert report["test_bag"]["accuracy"] > 0.5
    head = load_head(tmp_path / "head")
    assert (
        head.labels == ("carry", "grasp", "place", "reach")
        and head.encoder_sha256 == report["encoder_sha256"]
    )


def test_fit_on_a_folder_of_pictures(tmp_path, tiny_checkpoint, capsys):
    for label, level in (("dark", 30), ("bright", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for k in range(8):
            noise = np.random.default_rng(k).integers(-20, 20, (40, 60, 3)) + level
            cv2.imwrite(str(tmp_path / "pictures" / label / f"{k}.jpg"), noise.astype(np.uint8))
    arguments = {
        "--images": tmp_path / "pictures",
        "--out": tmp_path / "head",
        "--checkpoint": tiny_checkpoint,
        "--backend": "torch",
        "--method": "nearest_mean",
        "--feature": "cls",
    }
    status = main(["fit", *(str(word) for pair in arguments.items() for word in pair)])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "held out: accuracy 1.000 of 4 pictures" in said.out


def test_what_is_wrong_is_one_line_on_stderr(tmp_path, capsys):
    for arguments, expected in (
        (("fit", "--bag", DEMO_BAG, "--out", tmp_path), "--bag needs --topic"),
        (
            ("fit", "--bag", DEMO_BAG, "--topic", "/nope", "--out", tmp_path),
            "no topic /nope; there are: /agent",
        ),
        (("fit", "--images", tmp_path, "--out", tmp_path), "holds no pictures"),
        (("fit", "--bag", "/no/bag", "--topic", "/a", "--out", tmp_path), "no bag at /no/bag"),
        (
            (
                "fit",
                "--bag",
                DEMO_BAG,
                "--topic",
                "/wrist/image/compressed",
                "--out",
                tmp_path,
                "--checkpoint",
                "/no/model",
            ),
            "/no/model",
        ),
    ):
        assert main([*map(str, arguments)]) == 1
        assert expected in (said := capsys.readouterr().err) and said.count("\n") == 1
    done = run("fit", "--bag", "/no/bag", "--topic", "/a", "--out", tmp_path)
    assert (
        done.returncode == 1 and "no bag at /no/bag" in done.stderr and done.stderr.count("\n") == 1
    ), done.stderr
    assert run("dance").returncode == 2
