"""Encoders whose own code takes other than normalised images, or that lie in larger models.

All are of transformers, with random weights; depth is cut where the note says so.
"""

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
from transformers import AutoImageProcessor, Siglip2VisionConfig, Siglip2VisionModel
from transformers.image_utils import SizeDict

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
}


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


def patches_of(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images (B, 3, H, W) to patches (B, P, side · side · 3), channels last."""
    batch, _, height, width = images.shape
    parts = images.reshape(batch, 3, height // side, side, width // side, side)
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def run_naflex(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """NaFlex: patches, a mask of ones and the grid."""
    side = model.config.patch_size
    patches = patches_of(images, side)
    grid = [images.shape[2] // side, images.shape[3] // side]
    shapes = torch.tensor([grid] * len(images))
    out = model(patches, torch.ones(patches.shape[:2], dtype=torch.long), shapes)
    return {"patch_tokens": out.last_hidden_state, "pooled": out.pooler_output}


def prepare_naflex(processor: Any, picture: Any) -> np.ndarray:
    """The processor's own steps, resized to the square of all patches instead of its own grid."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    size = SizeDict(height=256, width=256)
    resized = processor.resize(pixels, size, resample=processor.resample)
    return processor.normalize(resized / 255, processor.image_mean, processor.image_std).numpy()


NAFLEX = {
    "image_processor_type": "Siglip2ImageProcessor",
    "max_num_patches": 256,
    "patch_size": 16,
    "resample": 2,
    **HALF,
}
NAFLEX_NOTE = (
    "16 x 16 and 10 x 16 patches; pixels by the processor's resize to 256 px, not to its own grid"
)
TOWERS = (
    Tower(
        family="siglip2",
        what="NaFlex B/16",
        kind=Siglip2VisionModel,
        config=Siglip2VisionConfig(),
        preprocessor=NAFLEX,
        run=run_naflex,
        prepare=prepare_naflex,
        note=NAFLEX_NOTE,
    ),
    Tower(
        family="siglip2",
        what="NaFlex so400m/16, 4 blocks",
        kind=Siglip2VisionModel,
        config=Siglip2VisionConfig(**SO400M),
        preprocessor=NAFLEX,
        run=run_naflex,
        prepare=prepare_naflex,
        note=NAFLEX_NOTE,
    ),
)


def rows() -> list[Row]:
    """One row a tower."""
    transformers.logging.set_verbosity_error()
    return [_row(tower) for tower in TOWERS]


def _row(tower: Tower) -> Row:
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
