"""A checkpoint that does not say its preprocessing, on the command line."""

import shutil

import cv2
import numpy as np
import pytest

from test.checkpoints.family_files import WRITERS
from test.checkpoints.test_by_hand import FILE, MEAN, STD
from vit_perception.checkpoints.by_hand import MARK
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.main import main
from vit_perception.policy.features import FeatureFiles

ENGINE = ["--backend", "torch", "--precision", "float32"]
COMMANDS = {
    "build": ["build", *ENGINE],
    "embed": ["embed", "pictures", "--out", "features", *ENGINE],
    "explain": ["explain", "pictures/a/0.png", "--out", "figure.png"],
    "fit": ["fit", "--images", "pictures", "--out", "head", "--backend", "torch", "--no-cache"],
    "fit finetune": [
        *("fit", "--images", "pictures", "--out", "tuned", "--method", "finetune"),
        *("--epochs", "1", "--threads", "1"),
    ],
}


def options(size_px):
    return [
        *("--mean", *map(str, MEAN), "--std", *map(str, STD)),
        *("--model-size", *map(str, size_px)),
    ]


@pytest.fixture
def bare(tiny_checkpoint, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (folder / FILE).unlink()
    for label, level in (("a", 30), ("b", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for k in range(4):
            noise = np.random.default_rng(k).integers(-20, 20, (40, 60, 3)) + level
            path = str(tmp_path / "pictures" / label / f"{k}.png")
            cv2.imwrite(path, noise.astype(np.uint8))
            if label == "a":  # for embed: one folder of pictures
                shutil.copy(path, tmp_path / f"pictures/{k}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_both_cures_and_takes_the_second(command, bare, capsys):
    words = [*COMMANDS[command], "--checkpoint", str(bare)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"save as {bare / FILE}: " in said and f"model.mean: {list(MEAN)}" in said
    assert main([*words, *options((56, 56))[:-3]]) == 1
    assert "parameter 'model.size' is []" in capsys.readouterr().err
    assert main([*words, *options((56, 56))]) == 0, capsys.readouterr().err
    if command == "embed":
        assert [layout.model for layout in FeatureFiles(bare.parent / "features").layouts] == [
            f"bare{MARK}"
        ]


def test_extract_takes_it(tmp_path, capsys):
    WRITERS["internvl"](tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    words = ["extract", str(tmp_path / "model"), "--out", str(tmp_path / "encoder")]
    assert main(words) == 1
    assert "set model.mean, model.std and model.size" in capsys.readouterr().err
    assert main([*words, *options((64, 64))]) == 0
    assert load_checkpoint(str(tmp_path / "encoder")).card.mean == MEAN


def test_random_weights_have_none(bare, capsys):
    words = ["fit", "--images", "pictures", "--out", "x", "--method", "finetune"]
    words += ["--variant", "test", "--image-size", "32", *options((56, 56))]
    assert main(words) == 1
    assert "--variant and --mean are both given" in capsys.readouterr().err
