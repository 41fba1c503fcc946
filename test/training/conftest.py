"""Small real pictures, and threads as a test found them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


def write_digits(folder: Path, count: int) -> Path:
    """``count`` of scikit-learn's handwritten digits as 8 x 8 px PNG files, a folder a digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (picture, label) in enumerate(zip(digits.images[:count], digits.target)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / str(label) / f"{index:04d}.png"),
            np.clip(picture * 16, 0, 255).astype(np.uint8),
        )
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """All 1,797 digits."""
    return write_digits(tmp_path_factory.mktemp("digits"), 1797)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory) -> Path:
    """The first 240 digits."""
    return write_digits(tmp_path_factory.mktemp("few_digits"), 240)


@pytest.fixture
def one_thread():
    """On busy cores a tiny model takes many times as long with two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
