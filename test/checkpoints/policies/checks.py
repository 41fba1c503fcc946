"""What is checked in the same way of several policies: pixels, refusals, digests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from test.checkpoints.policies.policy_folders import write
from vit_perception.checkpoints.errors import CheckpointError, MisfitError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.preprocess import Preprocessor
from vit_perception.model.model_card import ModelCard
from vit_perception.wire.records import RgbImage


def random_pixels(size_px: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8, the same for the same size."""
    return np.random.default_rng(0).integers(0, 256, (*size_px, 3), np.uint8)


def prepared(card: ModelCard, pixels: np.ndarray) -> Tensor:
    """What the package makes of (H, W, 3) ``pixels`` for a checkpoint: (3, side, side) float32 from
    0 to 255.
    """
    return Preprocessor(card.rule)(RgbImage(pixels, 0, "")).float()


def check_refused(folder: Path, message: str) -> None:
    """The policy is refused with ``message``, a pattern, and with what would be accepted."""
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(str(folder))
    assert "accepted: " in str(error.value)


def check_unknown_tensor_is_refused(folder: Path, name: str) -> None:
    """The policy is refused for the tensor ``name`` and for no other one."""
    with pytest.raises(MisfitError) as error:
        load_checkpoint(str(folder))
    assert error.value.unexpected == [name]


def check_digest(
    folder: Path, config: dict, tensors_of: Callable[[], dict[str, Tensor]], *, rest: str, read: str
) -> None:
    """The digest sees tensors whose names begin with ``read``, and none whose names begin with
    ``rest``: another action side is the same encoder, and a fine-tuned tower is another one.
    """
    for changed in (rest, read):
        assert any(name.startswith(changed) for name in tensors_of()), f"no tensor {changed}"
    digests = []
    for number, changed in enumerate(("as it is", rest, read)):
        tensors = {n: t + 0.25 if n.startswith(changed) else t for n, t in tensors_of().items()}
        policy = write(folder / str(number), config, tensors)
        digests.append(load_checkpoint(str(policy)).card.weights_sha256)
    assert digests[0] == digests[1] != digests[2]
