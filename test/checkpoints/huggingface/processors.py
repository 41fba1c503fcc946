"""Our preprocessing against an image processor of transformers, on pictures of odd sizes."""

import numpy as np
import torch
from PIL import Image

from test.conftest import ROOT
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

SIZES_PX = ((97, 231), (480, 640), (333, 127), (721, 503), (224, 224))


def pictures() -> list[np.ndarray]:
    """A natural picture, cut and resized to odd sizes, (H, W, 3) uint8."""
    whole = Image.open(ROOT / "docs/images/contact_sheet.png").convert("RGB")
    return [
        np.asarray(whole.resize((width, height), Image.Resampling.LANCZOS))
        for height, width in SIZES_PX
    ]


def mean_difference(processor, rule, mean, std) -> list[float]:
    """The mean absolute difference of each picture's pixels, of 1.0, to what ``processor`` makes of
    it.
    """
    ours, differences = Preprocessor(rule), []
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    for pixels in pictures():
        theirs = (
            processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0].double()
            * std
            + mean
        )
        mine = ours(RgbImage(pixels, 1, "camera")).double() / 255
        assert theirs.shape == mine.shape
        differences.append((theirs - mine).abs().mean().item())
    return differences
