"""Preprocessing of bare weights files: that beside them, or what their authors published, said
aloud.
"""

import logging
from typing import NamedTuple

from vit_perception.checkpoints.files.opened import PREPROCESSOR_FILE, Found
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.image.patch_geometry import ResizeRule

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
_log = logging.getLogger(__name__)


class Preprocessing(NamedTuple):
    """How pixels become the model's input."""

    rule: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]


def published_unless_beside(found: Found, published: Preprocessing, whose: str) -> Preprocessing:
    """preprocessor_config.json beside the weights (as transformers writes it), or ``published``
    with a warning.

    A bare file does not say how its images were prepared, and another preparation gives features
    that look right and are not, hence the warning with every number.
    """
    if found.preprocessor is not None:
        return Preprocessing(*preprocessing_of(found.folder, published.rule.interpolation))
    rule = published.rule
    edge = f", shortest edge {rule.resize_shortest_edge_px}" if rule.resize_shortest_edge_px else ""
    _log.warning(
        "%s says nothing of its preprocessing; taken: %s: %s to %d x %d px%s, %s, mean %s, std %s. "
        "If it was "
        "trained otherwise, put a %s beside it",
        found.path,
        whose,
        rule.fit,
        *rule.network_size_px,
        edge,
        rule.interpolation,
        published.mean,
        published.std,
        PREPROCESSOR_FILE,
    )
    return published


def centre_crop(side_px: int, shortest_edge_px: int, interpolation: str = "bicubic") -> ResizeRule:
    """torchvision's Resize of the shortest edge and CenterCrop to a square."""
    return ResizeRule(
        (side_px, side_px), "crop", shortest_edge_px, interpolation, crop_rounding="half_even"
    )
