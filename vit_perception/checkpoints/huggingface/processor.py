"""preprocessor_config.json of Hugging Face transformers: how a picture becomes the network's input.

Format: https://huggingface.co/docs/transformers/main_classes/image_processor; the numbers of
``resample`` are those of Pillow's ``Image.Resampling``. A field that changes pixels is obeyed or
refused, and so is a processor of another kind.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.opened import PREPROCESSOR_FILE, is_there, read_json
from vit_perception.checkpoints.huggingface.config import flag_of, numbers_of, side_px, size_px
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

PROCESSOR_FILE = "processor_config.json"
_RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Processors that resize, crop, rescale and normalise, and nothing else -> whether a size of one
# number is both edges, and whether they cut the centre out where the file does not say.
_PROCESSORS = {
    "ViT": (True, False),
    "DeiT": (True, True),
    "Siglip": (True, False),
    "Blip": (True, False),
    "DPT": (True, False),
    "DINOv3ViT": (True, False),
    "Beit": (True, False),
    "Pvt": (True, False),
    "OwlViT": (True, False),
    "Segformer": (True, False),
    "CLIP": (False, True),
    "Bit": (False, True),
    "ChineseCLIP": (False, True),
    "MobileNetV1": (False, True),
}
_ENDINGS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
# What other processors of transformers do to pixels; on, each is refused. Those of annotations do
# nothing to them.
_HARMLESS = {
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "do_convert_rgb",
    "do_pad",
    "do_reduce_labels",
    "do_convert_annotations",
}
_OTHER_FIELDS = (
    "crop_pct",
    "rescale_offset",
    "offset",
    "max_num_patches",
    "min_pixels",
    "max_pixels",
    "pixel_shuffle",
    "image_grid_pinpoints",
    "max_image_tiles",
    "max_image_size",
    "tile_size",
    "crop_to_patches",
)


def preprocessing_of(
    folder: Path, interpolation: str, dense: bool = False
) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    """Resize rule, mean and std of preprocessor_config.json; ``interpolation`` where ``resample``
    is not given.

    With ``dense`` the caller sees to the fields of DPT's processor: padding, multiples and the
    aspect. Raises CheckpointError when the file is missing: a guess would give features that look
    right and are not.
    """
    path = folder / PREPROCESSOR_FILE
    if not is_there(path) and is_there(folder / PROCESSOR_FILE):
        # transformers 5 writes what image and text processor share a folder with into one file.
        path = folder / PROCESSOR_FILE
        fields = read_json(path, "the fields of an image processor").get("image_processor") or {}
    else:
        fields = read_json(
            path,
            "size, image_mean and image_std (for crops also do_center_crop and crop_size), as "
            "the model's author published it",
        )
    try:
        square, crops = _check_kind(fields)
        rule = _resize_rule(fields, interpolation, square, crops)
        if not dense:
            _check_aspect(fields, rule.network_size_px)
            check_padding(fields, rule.network_size_px)
        return rule, *_mean_and_std(fields)
    except KeyError as error:
        raise CheckpointError(
            f"{path} has no {error.args[0]!r}; accepted: size, image_mean and image_std"
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def check_padding(fields: Mapping[str, Any], size_px: tuple[int, int]) -> None:
    """Raise ValueError where ``do_pad`` would make another size of ``size_px`` (height, width), its
    pictures'.
    """
    if not fields.get("do_pad"):
        return
    divisor, wanted = fields.get("size_divisor"), fields.get("pad_size")
    if divisor and (type(divisor) is not int or any(side % divisor for side in size_px)):
        raise InvalidValue(
            f"do_pad pads {size_px} to multiples of {divisor!r:.40}; accepted: a size that "
            "needs no padding"
        )
    sides = wanted if isinstance(wanted, Mapping) else {"height": wanted, "width": wanted}
    if wanted and sides != {"height": size_px[0], "width": size_px[1]}:
        raise InvalidValue(
            f"do_pad pads {size_px} to pad_size {wanted!r:.80}; accepted: do_pad false, or a size "
            "that "
            "needs no padding"
        )


def _check_kind(fields: Mapping[str, Any]) -> tuple[bool | None, bool]:
    """Whether one number is both edges (None: not said), and whether it crops by default. Raises
    ValueError.
    """
    kind = fields.get("image_processor_type") or fields.get("feature_extractor_type")
    known = {
        f"{name}{ending}": values for name, values in _PROCESSORS.items() for ending in _ENDINGS
    }
    if kind is not None and (not isinstance(kind, str) or kind not in known):
        raise InvalidValue(
            f"image_processor_type is {kind!r:.80}, whose pixels are not made here; accepted: "
            f"{', '.join(f'{name}ImageProcessor' for name in _PROCESSORS)}"
        )
    for name, value in fields.items():
        if value and (name in _OTHER_FIELDS or (name.startswith("do_") and name not in _HARMLESS)):
            raise InvalidValue(
                f"{name[:80]} is {value!r:.80}, which changes pixels in a way that is not known "
                "here; "
                "accepted: none, or false"
            )
    for name in _HARMLESS:
        if not isinstance(fields.get(name), (bool, type(None))):
            raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: true or false")
    square, crops = known.get(kind, (None, False))
    if fields.get("default_to_square") is not None:
        square = flag_of(fields, "default_to_square", True)
    return square, crops


def _check_aspect(fields: Mapping[str, Any], size_px: tuple[int, int]) -> None:
    multiple = fields.get("ensure_multiple_of") or 1
    if (
        fields.get("keep_aspect_ratio")
        or type(multiple) is not int
        or any(side % multiple for side in size_px)
    ):
        raise InvalidValue(
            f"keep_aspect_ratio is {fields.get('keep_aspect_ratio')!r:.40} and ensure_multiple_of "
            f"{multiple!r:.40} for {size_px}; accepted: false, and a divisor of both sides (else "
            "with "
            "DPT and Depth Anything)"
        )


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    return default if fields.get(name) is None else fields[name]


def _resize_rule(
    fields: Mapping[str, Any], interpolation: str, square: bool | None, crops: bool
) -> ResizeRule:
    if not _flag(fields, "do_resize", True):
        raise InvalidValue(
            "do_resize is false; accepted: true, since an engine's input has one size"
        )
    resample = fields.get("resample")
    if resample is not None and (type(resample) is not int or resample not in _RESAMPLES):
        raise InvalidValue(f"resample is {resample!r:.80}; accepted: {_RESAMPLES}")
    interpolation = interpolation if resample is None else _RESAMPLES[resample]
    size, crop = fields["size"], _flag(fields, "do_center_crop", crops)
    if isinstance(size, Mapping) and set(size) not in ({"height", "width"}, {"shortest_edge"}):
        raise InvalidValue(
            f"size is {size!r:.80}; accepted: height and width, or shortest_edge with a crop"
        )
    is_edge = "shortest_edge" in size if isinstance(size, Mapping) else square is False
    if not crop and is_edge:
        raise InvalidValue(
            f"size is {size!r:.80} without do_center_crop; accepted: height and width, or "
            "shortest_edge "
            "with a crop"
        )
    if not crop:
        return ResizeRule(size_px(fields, "size"), fit="stretch", interpolation=interpolation)
    cut = size_px(fields, "crop_size")
    # One number is the shortest edge in old files of processors that crop, but for DeiT's.
    if is_edge or (not isinstance(size, (Mapping, list)) and square is None):
        edge = size["shortest_edge"] if isinstance(size, Mapping) else size
        return ResizeRule(
            cut, fit="crop", resize_shortest_edge_px=edge, interpolation=interpolation
        )
    if size_px(fields, "size") == cut:
        return ResizeRule(cut, fit="stretch", interpolation=interpolation)
    return ResizeRule(cut, "stretch_crop", side_px(fields, "size"), interpolation)


def _mean_and_std(fields: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    factor, rescales = fields.get("rescale_factor"), _flag(fields, "do_rescale", True)
    if not rescales or (factor is not None and not math.isclose(factor, 1 / 255, rel_tol=1e-6)):
        raise InvalidValue(
            f"do_rescale is {rescales} with rescale_factor {factor!r:.80}; accepted: pixels scaled "
            "by "
            "1/255"
        )
    if not _flag(fields, "do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return numbers_of(fields, "image_mean", 3), numbers_of(fields, "image_std", 3)
