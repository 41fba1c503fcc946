"""Preprocessing of bare weights files: of the file next to them, or as their authors published."""

import logging

from vit_perception.checkpoints.by_hand import parameters_hint
from vit_perception.checkpoints.family import Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import PREPROCESSOR_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.pixel_statistics import HALF, IMAGENET_MEAN, IMAGENET_STD
from vit_perception.image.patch_geometry import ResizeRule

__all__ = [
    "HALF",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "centre_crop",
    "own_or_published",
    "stretch_half",
]

_TAKEN = (
    "%s says nothing of its preprocessing; taken: %s: %s to %d x %d px%s, %s, mean %s, std %s. "
    "If it was trained otherwise, put a %s beside it%s"
)
_log = logging.getLogger(__name__)


def own_or_published(files: CheckpointFiles, published: Preprocessing, whose: str) -> Preprocessing:
    """Read the preprocessor_config.json next to the weights, or take what is given by hand, or
    ``published`` with a warning.

    A bare file does not say how its images were prepared. Another preparation gives features that
    look right and are wrong, so the warning shows every number.

    Raises:
        CheckpointError: The file cannot be used.
        BadSetting: Only a part is given by hand.
    """
    rule = published.rule
    by_hand = files.by_hand
    if files.preprocessor is not None or (by_hand is not None and by_hand.is_given):
        return preprocessing_of(files.folder, rule.interpolation, by_hand=by_hand)
    edge = f", shortest edge {rule.resize_shortest_edge_px}" if rule.resize_shortest_edge_px else ""
    size = *rule.network_size_px, edge
    numbers = rule.interpolation, published.mean, published.std
    cure = parameters_hint(by_hand)
    otherwise = PREPROCESSOR_FILE, f", or {cure}" if cure else ""
    _log.warning(_TAKEN, files.path, whose, rule.fit, *size, *numbers, *otherwise)
    return published


def centre_crop(side_px: int, shortest_edge_px: int, interpolation: str = "bicubic") -> ResizeRule:
    """Make the rule of torchvision's Resize of the shortest edge and CenterCrop to a square."""
    return ResizeRule(
        network_size_px=(side_px, side_px),
        fit="crop",
        resize_shortest_edge_px=shortest_edge_px,
        interpolation=interpolation,
        crop_rounding="half_even",
    )


def stretch_half(config_size_px: tuple[int, int]) -> Preprocessing:
    """Stretch to (height, width) as TensorFlow does, without antialias; pixels go to -1 to 1."""
    rule = ResizeRule(config_size_px, "stretch", interpolation="bilinear_aliased")
    return Preprocessing(rule, HALF, HALF)
