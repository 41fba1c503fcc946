"""DPT and Depth Anything with random weights: transformers' models, and Depth Anything V2's own
code where installed.

``tokens`` are those of the blocks that the head takes; ``logits`` is the head's output, depth or
class scores, in units of its largest number where that is above 1.
"""

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from test.checkpoints.dense.dense_authors import anything_tensors
from test.checkpoints.dense.dense_models import randomise
from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import (
    Row,
    normalised,
    odd_pictures,
    preprocessing_difference,
    rgb_image,
    timed,
)
from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.image.preprocess import Preprocessor

torchvision_ops.declare()
import transformers

_NAME = f"transformers {transformers.__version__}"
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 384,
    "backbone_out_indices": [5, 11, 17, 23],
    "neck_hidden_sizes": [256, 512, 1024, 1024],
}
# Hidden size, heads, depth, head's channels, V2's blocks counted from 1.
_DINOV2 = {
    "S": (384, 6, 12, [48, 96, 192, 384], 64, [3, 6, 9, 12]),
    "B": (768, 12, 12, [96, 192, 384, 768], 128, [3, 6, 9, 12]),
    "L": (1024, 16, 24, [256, 512, 1024, 1024], 256, [5, 12, 18, 24]),
}
_WIDE = ((518, 518), (518, 686))
_HALF, _IMAGENET = ([0.5] * 3, [0.5] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def rows() -> list[Row]:
    """DPT for depth and for segmentation, Depth Anything V1, V2 and V2 metric, and the authors'
    file of V2.
    """
    seen = [
        _dpt("DPT-Large, depth", transformers.DPTForDepthEstimation, _LARGE),
        _dpt(
            "DPT on ViT-B, 150 classes",
            transformers.DPTForSemanticSegmentation,
            {"num_labels": 150, "use_batch_norm_in_fusion_residual": True},
        ),
        _depth_anything("V1 small", "S", [9, 10, 11, 12]),
        _depth_anything("V2 small", "S"),
        _depth_anything("V2 base", "B"),
        _depth_anything("V2 metric base", "B", depth_estimation_type="metric", max_depth=80),
    ]
    return [*seen, _own_depth_anything()]


def _dpt(what: str, kind: type, fields: dict) -> Row:
    model = _positive(randomise(kind(transformers.DPTConfig(**fields)), 0))
    processor = _processor({"height": 384, "width": 384}, *_HALF)
    with tempfile.TemporaryDirectory() as folder:
        _save(model, processor, Path(folder))
        _, origin_s = timed(lambda: kind.from_pretrained(folder))
        loaded, load_s = timed(lambda: load_checkpoint(folder))
        row = _compare(
            "dpt",
            what,
            loaded,
            model,
            ((384, 384), (256, 256)),
            lambda pixels: model.dpt(pixels, output_hidden_states=True).hidden_states[1:],
        )
        pixels = preprocessing_difference(
            loaded, lambda image: processor(image, return_tensors="np").pixel_values[0]
        )
    return Row(
        *row,
        preprocessing=pixels,
        load_s=load_s,
        origin_load_s=origin_s,
        note="384 and 256 px square; transformers itself takes no other shape",
    )


def _anything(
    size: str, blocks: list[int] | None = None, **fields
) -> transformers.DepthAnythingForDepthEstimation:
    width, heads, depth, channels, fused, blocks_v2 = _DINOV2[size]
    backbone = transformers.Dinov2Config(
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=depth,
        image_size=518,
        patch_size=14,
        out_indices=blocks or blocks_v2,
        reshape_hidden_states=False,
    )
    return _positive(
        randomise(
            transformers.DepthAnythingForDepthEstimation(
                transformers.DepthAnythingConfig(
                    backbone_config=backbone,
                    reassemble_hidden_size=width,
                    neck_hidden_sizes=channels,
                    fusion_hidden_size=fused,
                    **fields,
                )
            ),
            0,
        )
    )


def _depth_anything(what: str, size: str, blocks: list[int] | None = None, **fields) -> Row:
    model = _anything(size, blocks, **fields)
    processor = _processor(
        {"height": 518, "width": 518}, *_IMAGENET, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    with tempfile.TemporaryDirectory() as folder:
        _save(model, processor, Path(folder))
        _, origin_s = timed(lambda: type(model).from_pretrained(folder))
        loaded, load_s = timed(lambda: load_checkpoint(folder))
        row = _compare(
            "depth_anything",
            what,
            loaded,
            model,
            _WIDE,
            lambda pixels: model.backbone(pixels).feature_maps,
            every=False,
        )
        pixels = _pixels_of_4_to_3(loaded, processor)
    return Row(
        *row,
        preprocessing=pixels,
        load_s=load_s,
        origin_load_s=origin_s,
        note="518 x 518 and 518 x 686 px; preprocessing of 480 x 640, since another shape needs "
        "model.network_size",
    )


def _own_depth_anything() -> Row:
    family, what = "depth_anything_v2", "V2 small, the authors' file"
    if find_spec("depth_anything_v2") is not None:
        from depth_anything_v2.dpt import DepthAnythingV2

        model = randomise(DepthAnythingV2("vits", 64, [48, 96, 192, 384]), 0)
        torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 3.0)
        tensors, origin, sizes_px = (
            model.state_dict(),
            "the authors' code (jkp-depth-anything-v2)",
            _WIDE,
        )
        note = (
            "its own preprocessing is OpenCV's cubic, which does not antialias; here it is that of "
            "Hugging Face's "
            "processor of the same weights"
        )
    else:
        model = _anything("S")
        tensors, origin, sizes_px = anything_tensors(model), f"{_NAME}, renamed", _WIDE[:1]
        note = (
            "the authors' code is not installed (pip install --no-deps jkp-depth-anything-v2): the "
            "weights of "
            "transformers' model under their names"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "depth_anything_v2_vits.pth"
        torch.save(tensors, path)
        loaded, load_s = timed(lambda: load_checkpoint(str(path)))
        row = _compare(family, what, loaded, model, sizes_px, None)
    return Row(family, what, origin, *row[3:], load_s=load_s, note=note)


def _compare(
    family: str,
    what: str,
    loaded: LoadedModel,
    model: torch.nn.Module,
    sizes_px: tuple,
    states: Callable | None,
    every: bool = True,
) -> tuple:
    """Family, what, origin, and the largest differences of the blocks' tokens and of the head's
    output.
    """
    if loaded.card.family != family:
        raise ValueError(f"{what} was read as {loaded.card.family}, not as {family}")
    spec, tokens, outputs = loaded.dense, [], []
    for size_px in sizes_px:
        images = torch.from_numpy(normalised(loaded, size_px, count=1))
        with torch.inference_mode():
            mine = loaded.model.intermediate(images, spec.blocks, spec.norm)
            ours = spec.module(mine, loaded.model.config.grid_of(*size_px))
            theirs = model(images)
            if states is not None:
                of_blocks = states(images)
                of_blocks = [of_blocks[block] for block in spec.blocks] if every else of_blocks
                tokens += [float((a - b).abs().max()) for a, b in zip(mine, of_blocks, strict=True)]
        theirs = next(
            (getattr(theirs, n) for n in ("predicted_depth", "logits") if hasattr(theirs, n)),
            theirs,
        )
        if ours.shape != theirs.shape or float(theirs.std()) < 1e-3:
            raise ValueError(
                f"{what}: {tuple(ours.shape)} here, {tuple(theirs.shape)} there, spread "
                f"{theirs.std():g}"
            )
        outputs.append(float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max())))
    return family, what, _NAME, max(tokens, default=None), max(outputs)


def _positive(model: torch.nn.Module) -> torch.nn.Module:
    """Depth of random weights above 0, so that the last ReLU hides nothing."""
    last = model.head.conv3 if hasattr(model.head, "conv3") else model.head.head[4]
    if (
        last.out_channels == 1
        and getattr(model.config, "depth_estimation_type", "relative") == "relative"
    ):
        torch.nn.init.constant_(last.bias, 3.0)
    return model


def _processor(size: dict, mean: list, std: list, **fields) -> transformers.DPTImageProcessor:
    return transformers.DPTImageProcessor(
        size=size, image_mean=mean, image_std=std, resample=3, **fields
    )


def _save(model: torch.nn.Module, processor: transformers.DPTImageProcessor, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if not (folder / "preprocessor_config.json").exists():
        (folder / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))


def _pixels_of_4_to_3(loaded: LoadedModel, processor: transformers.DPTImageProcessor) -> float:
    picture = odd_pictures()[0]
    mean, std = (np.array(v)[:, None, None] for v in (loaded.card.mean, loaded.card.std))
    theirs = processor(Image.fromarray(picture), return_tensors="np").pixel_values[0] * std + mean
    return float(
        np.abs(Preprocessor(loaded.card.rule)(rgb_image(picture)).numpy() - theirs * 255).mean()
    )
