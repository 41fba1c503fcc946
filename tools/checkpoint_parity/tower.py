"""One row of a model of transformers that is run, or prepares pictures, in a way of its own."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise, timed

torchvision_ops.declare()
import transformers
from transformers import AutoImageProcessor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import SizeDict

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One row: a model of transformers, how it is run, and how it prepares a picture."""

    family: str
    what: str
    kind: type
    config: Any
    preprocessor: dict[str, Any]
    # The model and normalised images (B, 3, H, W) to arrays by ViTOutput's names.
    run: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    # The processor and a picture to normalised (3, H, W).
    prepare: Callable[[Any, Any], np.ndarray]
    # (height, width) of a second input.
    other_size_px: tuple[int, int] = (160, 256)
    note: str = ""


def prepare_fixed(processor: Any, picture: Any, size_px: tuple[int, int]) -> np.ndarray:
    """The processor's own steps, resized to (height, width) instead of to its own grid."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    size = SizeDict(height=size_px[0], width=size_px[1])
    resized = TorchvisionBackend.resize(processor, pixels, size, resample=processor.resample)
    return processor.normalize(resized / 255, processor.image_mean, processor.image_std).numpy()


def prepare_plain(processor: Any, picture: Any) -> np.ndarray:
    """The processor's output as it is."""
    return np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])


def row_of(tower: Tower) -> Row:
    """Save the model with random weights, and read it by transformers and here."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    made = randomise(tower.kind(tower.config))
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(
            json.dumps(tower.preprocessor), encoding="utf-8"
        )
        model, load_s = timed(lambda: tower.kind.from_pretrained(folder).eval())
        processor = AutoImageProcessor.from_pretrained(folder)
        origin = Origin(
            f"transformers {transformers.__version__}",
            lambda images: _run(tower, model, images),
            lambda picture: tower.prepare(processor, picture),
            load_s,
        )
        sizes = (tower.other_size_px,)
        return compare(tower.family, tower.what, Path(folder), origin, tower.note, sizes)


@torch.inference_mode()
def _run(tower: Tower, model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = tower.run(model, torch.from_numpy(images))
    return {name: value.numpy() for name, value in outputs.items()}
