"""`vit-perception fit` as a user types it, and pictures to fit on."""

import sys

import cv2
import numpy as np
import pytest
import torch

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
