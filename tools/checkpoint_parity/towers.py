"""Encoders whose own code takes other than normalised images: NaFlex, C-RADIO, TIPS; and Theia.

All are of transformers, with random weights; depth is cut where the note says so.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise
from tools.checkpoint_parity.tower import HALF, Tower, prepare_fixed, prepare_plain, row_of

torchvision_ops.declare()
import transformers
from transformers import (
    DeiTImageProcessor,
    RadioConfig,
    RadioModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    Tipsv2VisionConfig,
    Tipsv2VisionModel,
    ViTConfig,
    ViTModel,
)

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
}


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
    """At the square of all patches."""
    return prepare_fixed(processor, picture, (256, 256))


def run_tips(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tower, which takes images."""
    tokens = model(images).last_hidden_state
    first = 1 + model.config.num_register_tokens
    return {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, first:]}


def run_radio(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The model, which normalises by itself."""
    conditioner = model.input_conditioner
    out = model(images * conditioner.norm_std + conditioner.norm_mean)
    return {"patch_tokens": out.features, "pooled": out.summary}


def prepare_radio(processor: Any, picture: Any) -> np.ndarray:
    """The processor's pixels from 0 to 1, normalised as the model does."""
    mean, std = (np.array(v)[:, None, None] for v in (RADIO.norm_mean, RADIO.norm_std))
    return (prepare_plain(processor, picture) - mean) / std


CONDITIONED = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"height": 512, "width": 512},
    "do_center_crop": False,
    "do_normalize": False,
    "resample": 3,
}
TIPS = {
    "image_processor_type": "Tipsv2ImageProcessor",
    "size": {"height": 448, "width": 448},
    "do_normalize": False,
    "resample": 2,
}
RADIO = RadioConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
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
    Tower(
        family="radio",
        what="C-RADIO B/16",
        kind=RadioModel,
        config=RADIO,
        preprocessor=CONDITIONED,
        run=run_radio,
        prepare=prepare_radio,
        note="the model normalises; factors of layers, which its files do not have, are kept",
    ),
    Tower(
        family="radio",
        what="C-RADIO H/16, 2 of its 32 blocks",
        kind=RadioModel,
        config=RadioConfig(num_hidden_layers=2),
        preprocessor=CONDITIONED,
        run=run_radio,
        prepare=prepare_radio,
    ),
    Tower(
        family="tipsv2",
        what="B/14, image tower",
        kind=Tipsv2VisionModel,
        config=Tipsv2VisionConfig(),
        preprocessor=TIPS,
        run=run_tips,
        prepare=prepare_plain,
        other_size_px=(140, 252),
    ),
    Tower(
        family="tipsv2",
        what="g/14, SwiGLU, 2 of its 40 blocks",
        kind=Tipsv2VisionModel,
        config=Tipsv2VisionConfig(
            hidden_size=1536, num_hidden_layers=2, num_attention_heads=24, use_swiglu_ffn=True
        ),
        preprocessor=TIPS,
        run=run_tips,
        prepare=prepare_plain,
        other_size_px=(140, 252),
    ),
)


def rows() -> list[Row]:
    """One row a tower, and Theia's."""
    return [*map(row_of, TOWERS), theia_row()]


def theia_row() -> Row:
    """Theia's backbone: transformers' ViT under its names, and the processor that it loads."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    model = randomise(ViTModel(ViTConfig(**sizes), add_pooling_layer=False))
    # facebook/deit-small-patch16-224, as published.
    processor = DeiTImageProcessor(
        size={"height": 256, "width": 256},
        crop_size={"height": 224, "width": 224},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = Path(folder) / "model.safetensors"
        held = load_file(weights)
        save_file({f"backbone.model.{name}": tensor for name, tensor in held.items()}, weights)
        config = {"model_type": "theia", "backbone": "facebook/deit-small-patch16-224"}
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        origin = Origin(
            f"transformers {transformers.__version__}",
            lambda images: _run_theia(model, images),
            lambda picture: prepare_plain(processor, picture),
        )
        note = "the backbone and the processor that its code takes from transformers"
        return compare("theia", "small", Path(folder), origin, note, ((160, 256),))


@torch.inference_mode()
def _run_theia(model: torch.nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    tokens = model(torch.from_numpy(images), interpolate_pos_encoding=True).last_hidden_state
    return {"cls_token": tokens[:, 0].numpy(), "patch_tokens": tokens[:, 1:].numpy()}
