"""preprocessor_config.json of Hugging Face transformers: how an image becomes the network's input.

Format: https://huggingface.co/docs/transformers/main_classes/image_processor; the numbers of
``resample`` are those of Pillow's ``Image.Resampling``. A field that changes pixels is obeyed or
refused. Processors of other kinds are refused.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vit_perception.checkpoints.by_hand import (
    PARAMETER_OF,
    GivenByHand,
    lacking_fields,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import PREPROCESSOR_FILE, is_there, read_json
from vit_perception.checkpoints.huggingface.config import flag_of, numbers_of, side_px, size_px
from vit_perception.config.by_hand import ByHand
from vit_perception.config.checks import BadSetting
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

PROCESSOR_FILE = "processor_config.json"
_HOLDS = (
    "size, image_mean and image_std (for crops also do_center_crop and crop_size), as the model's "
    "author published it"
)
_SET_LACKING = f"or set the parameters of what it lacks, of {', '.join(PARAMETER_OF.values())}"
_RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class _Defaults(NamedTuple):
    """How a processor reads what its file leaves open."""

    # Whether a size of one number is both edges, not the shortest; None: unknown.
    is_square: bool | None
    # Whether the centre is cut out.
    crops: bool


_STRETCH = _Defaults(is_square=True, crops=False)
_CROP = _Defaults(is_square=False, crops=True)
# Processors that resize, crop, rescale and normalise, and nothing else.
_PROCESSORS = {
    "ViT": _STRETCH,
    "DeiT": _Defaults(is_square=True, crops=True),
    "Siglip": _STRETCH,
    "Siglip2": _STRETCH,
    "Tipsv2": _STRETCH,
    "Blip": _STRETCH,
    "GotOcr2": _STRETCH,
    "Qwen2VL": _STRETCH,
    "DPT": _STRETCH,
    "DINOv3ViT": _STRETCH,
    "Beit": _STRETCH,
    "Pvt": _STRETCH,
    "OwlViT": _STRETCH,
    "Segformer": _STRETCH,
    "CLIP": _CROP,
    "Bit": _CROP,
    "ChineseCLIP": _CROP,
    "MobileNetV1": _CROP,
}
_ENDINGS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
# Other switches of transformers' processors change pixels, and are refused when they are on.
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
    folder: Path,
    interpolation: str,
    dense: bool = False,
    as_known: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda fields: fields,
    hint: str = "",
    by_hand: ByHand | None = None,
) -> Preprocessing:
    """Read preprocessor_config.json; without ``resample``, take ``interpolation``.

    With ``dense`` the caller obeys the fields of DPT's processor: padding, multiples and aspect.
    ``as_known`` turns the fields of a processor of one family alone into those of ``Siglip``'s.
    ``hint`` follows the error for a folder without the file. ``by_hand`` gives what the file lacks,
    or all of a missing file; None says that nothing can be given.

    Raises:
        CheckpointError: The file is missing or cannot be obeyed. A guess would give features that
            look right and are wrong.
        BadSetting: ``by_hand`` gives a part of what is lacking.
    """
    path = folder / PREPROCESSOR_FILE
    if not is_there(path) and is_there(folder / PROCESSOR_FILE):
        # transformers 5 writes what image and text processor share a folder with into one file.
        path = folder / PROCESSOR_FILE
        fields = read_json(path, "the fields of an image processor").get("image_processor") or {}
    elif is_there(path):
        fields = read_json(path, _HOLDS)
    elif by_hand is not None and by_hand.is_given:
        fields, as_known = {}, dict  # what is given is of the known kind
    else:
        raise CheckpointError(
            f"{folder}: no file {path.name}; accepted: one with {_HOLDS}", hint=hint
        )
    given: Mapping[str, Any] = {}
    curable: tuple[str, ...] = ()
    try:
        fields = as_known(fields)
        defaults = _defaults_of(fields)
        if by_hand is not None:
            # A size alone says nothing of a crop.
            crops = _flag(fields, "do_center_crop", defaults.crops)
            curable = tuple(name for name in PARAMETER_OF if name != "size" or not crops)
            given = lacking_fields(fields, by_hand, path, curable)
            fields = {**fields, **given}
        rule = _resize_rule(fields, interpolation, defaults)
        if not dense:
            _check_aspect(fields, rule.network_size_px)
            check_padding(fields, rule.network_size_px)
        return (GivenByHand if given else Preprocessing)(rule, *_mean_and_std(fields))
    except BadSetting:
        raise
    except KeyError as error:
        name = error.args[0]
        raise CheckpointError(
            f"{path} has no {name!r}; accepted: size, image_mean and image_std",
            hint=_SET_LACKING if name in curable else "",
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def check_padding(fields: Mapping[str, Any], size_px: tuple[int, int]) -> None:
    """Check that ``do_pad`` keeps an image of ``size_px`` (height, width) as it is.

    Raises:
        ValueError: It would pad it.
    """
    if not fields.get("do_pad"):
        return
    divisor = fields.get("size_divisor")
    wanted = fields.get("pad_size")
    if divisor and (type(divisor) is not int or any(side % divisor for side in size_px)):
        raise InvalidValue(
            f"do_pad pads {size_px} to multiples of {divisor!r:.40}; accepted: a size that "
            "needs no padding"
        )
    sides = wanted if isinstance(wanted, Mapping) else {"height": wanted, "width": wanted}
    if wanted and sides != {"height": size_px[0], "width": size_px[1]}:
        raise InvalidValue(
            f"do_pad pads {size_px} to pad_size {wanted!r:.80}; accepted: do_pad false, or a size "
            "that needs no padding"
        )


def _defaults_of(fields: Mapping[str, Any]) -> _Defaults:
    """Find the processor's defaults, and refuse other processors and fields (ValueError)."""
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
                "here; accepted: none, or false"
            )
    for name in _HARMLESS:
        if not isinstance(fields.get(name), (bool, type(None))):
            raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: true or false")
    defaults = known.get(kind, _Defaults(is_square=None, crops=False))
    if fields.get("default_to_square") is not None:
        return defaults._replace(is_square=flag_of(fields, "default_to_square", True))
    return defaults


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
            "with DPT and Depth Anything)"
        )


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    return default if fields.get(name) is None else fields[name]


def _resize_rule(fields: Mapping[str, Any], interpolation: str, defaults: _Defaults) -> ResizeRule:
    if not _flag(fields, "do_resize", True):
        raise InvalidValue(
            "do_resize is false; accepted: true, since an engine's input has one size"
        )
    resample = fields.get("resample")
    if resample is not None and (type(resample) is not int or resample not in _RESAMPLES):
        raise InvalidValue(f"resample is {resample!r:.80}; accepted: {_RESAMPLES}")
    interpolation = interpolation if resample is None else _RESAMPLES[resample]
    size = fields["size"]
    crop = _flag(fields, "do_center_crop", defaults.crops)
    if isinstance(size, Mapping) and set(size) not in ({"height", "width"}, {"shortest_edge"}):
        raise InvalidValue(
            f"size is {size!r:.80}; accepted: height and width, or shortest_edge with a crop"
        )
    is_edge = "shortest_edge" in size if isinstance(size, Mapping) else defaults.is_square is False
    if not crop and is_edge:
        raise InvalidValue(
            f"size is {size!r:.80} without do_center_crop; accepted: height and width, or "
            "shortest_edge with a crop"
        )
    if not crop:
        return ResizeRule(size_px(fields, "size"), fit="stretch", interpolation=interpolation)
    cut = size_px(fields, "crop_size")
    # One number is the shortest edge in old files of processors that crop, except DeiT's.
    if is_edge or (not isinstance(size, (Mapping, list)) and defaults.is_square is None):
        edge = size["shortest_edge"] if isinstance(size, Mapping) else size
        return ResizeRule(
            network_size_px=cut,
            fit="crop",
            resize_shortest_edge_px=edge,
            interpolation=interpolation,
        )
    if size_px(fields, "size") == cut:
        return ResizeRule(cut, fit="stretch", interpolation=interpolation)
    return ResizeRule(
        network_size_px=cut,
        fit="stretch_crop",
        resize_shortest_edge_px=side_px(fields, "size"),
        interpolation=interpolation,
    )


def _mean_and_std(fields: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    factor = fields.get("rescale_factor")
    rescales = _flag(fields, "do_rescale", True)
    if not rescales or (factor is not None and not math.isclose(factor, 1 / 255, rel_tol=1e-6)):
        raise InvalidValue(
            f"do_rescale is {rescales} with rescale_factor {factor!r:.80}; accepted: pixels scaled "
            "by 1/255"
        )
    if not _flag(fields, "do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return numbers_of(fields, "image_mean", 3), numbers_of(fields, "image_std", 3)
