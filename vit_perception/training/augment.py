"""Random variations of an image for training: crop, mirror image, colours.

The crop is that of Szegedy et al. 2015 (arXiv:1409.4842, section 6): a share of the area and an
aspect ratio are drawn, at most ten times, until they fit. Every number is drawn from a generator
that is seeded by run, epoch and image, so that neither threads nor an interruption change it.
"""

import numpy as np
import torch
from torch import Tensor

from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.training.recipe import Recipe
from vit_perception.wire.records import RgbImage

ASPECT_RATIOS = (3 / 4, 4 / 3)
_GREY = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601 luma


def generator_of(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of image ``index`` in ``epoch``."""
    return np.random.default_rng([seed, epoch, index])


class Augment:
    """Turns a decoded image into (3, H, W) uint8 of the network's size, different each time."""

    def __init__(self, rule: ResizeRule, recipe: Recipe):
        self._resize = Preprocessor(
            ResizeRule(rule.network_size_px, "stretch", interpolation=rule.interpolation)
        )
        self._recipe = recipe

    def __call__(self, image: RgbImage, generator: np.random.Generator) -> Tensor:
        """Crop, resize and change ``image`` with numbers from ``generator``.

        Raises:
            BadInput: ``size``, for a shape that cannot be resized.
        """
        top, left, height, width = random_crop(image.size, self._recipe.crop_scale, generator)
        crop = RgbImage(
            image.pixels[top : top + height, left : left + width], image.stamp_ns, image.frame_id
        )
        pixels = self._resize(crop)
        # Drawn whether it is used or not: one switch does not change what the others draw.
        mirrored = generator.random() < 0.5
        factors = generator.uniform(-1.0, 1.0, 3)
        if self._recipe.flip and mirrored:
            pixels = pixels.flip(2)
        return (
            jitter(pixels, 1.0 + self._recipe.colour * factors) if self._recipe.colour else pixels
        )


def random_crop(
    size_px: tuple[int, int], smallest_share: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a crop inside ``size_px`` (height, width).

    It is the complete image if none of ten attempts fits.
    """
    area = size_px[0] * size_px[1]
    for _ in range(10):
        share = generator.uniform(smallest_share, 1.0)
        # The logarithm is uniform: 3/4 and 4/3 are equally far from a square.
        ratio = np.exp(generator.uniform(*np.log(ASPECT_RATIOS)))
        height = round(np.sqrt(area * share / ratio))
        width = round(np.sqrt(area * share * ratio))
        if 0 < height <= size_px[0] and 0 < width <= size_px[1]:
            return (
                int(generator.integers(size_px[0] - height + 1)),
                int(generator.integers(size_px[1] - width + 1)),
                height,
                width,
            )
    return 0, 0, *size_px


def jitter(pixels: Tensor, factors: np.ndarray) -> Tensor:
    """Multiply brightness, contrast and saturation, in this order, by ``factors`` (3,).

    ``pixels`` are (3, H, W) uint8.
    """
    brightness, contrast, saturation = map(float, factors)
    values = (pixels.float() * brightness).clamp(0, 255)
    mean = (values * _GREY[:, None, None]).sum(dim=0).mean()
    values = ((values - mean) * contrast + mean).clamp(0, 255)
    grey = (values * _GREY[:, None, None]).sum(dim=0, keepdim=True)
    values = ((values - grey) * saturation + grey).clamp(0, 255)
    return values.round().to(torch.uint8)
