"""Parameter counts, pinned twice: by a formula that knows nothing of the code, and by published
numbers.
"""

import dataclasses

import pytest
import torch

from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

# With a linear head of 1000 classes for the sizes of the ImageNet papers (timm lists 5.72, 22.05,
# 88.22, 86.57, 304.33, 632.05 M), without a head for DINOv2's (22.06, 304.37, 1136.48 M).
COUNTS = {
    "test": (0, 34_240),
    "Ti/16": (1000, 5_717_416),
    "S/16": (1000, 22_050_664),
    "S/14": (0, 22_056_192),
    "B/32": (1000, 88_224_232),
    "B/16": (1000, 86_567_656),
    "L/16": (1000, 304_326_632),
    "L/14": (0, 304_367_616),
    "H/14": (1000, 632_045_800),
    "g/14": (0, 1_136_479_232),
}


def by_formula(c: ViTConfig) -> int:
    d, m = c.width, c.mlp_width
    patches = c.image_size_px[0] * c.image_size_px[1] // c.patch_size_px**2
    tokens = d + d * (patches + 1) + d * c.register_tokens
    mlp = 2 * (d * m + m) + (m * d + d) if c.activation == "swiglu" else (d * m + m) + (m * d + d)
    block = 4 * (d * d + d) + mlp + 2 * 2 * d + (2 * d if c.layer_scale else 0)
    return 3 * c.patch_size_px**2 * d + d + tokens + c.depth * block + 2 * d + c.classes * (d + 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count(name):
    classes, pinned = COUNTS[name]
    config = VARIANTS[name]
    if classes:
        config = dataclasses.replace(config, head="linear", classes=classes)
    with torch.device("meta"):
        model = VisionTransformer(config)
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == by_formula(config) == pinned
    )


def test_every_variant_is_pinned():
    assert COUNTS.keys() == VARIANTS.keys()
