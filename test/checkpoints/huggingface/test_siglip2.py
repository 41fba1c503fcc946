"""SigLIP 2 NaFlex at a fixed grid: linear patches, positions for any grid, its pixels."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    Siglip2Config,
    Siglip2ForImageClassification,
    Siglip2Model,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    Siglip2ImageProcessorPil,
    convert_image_to_patches,
)

from test.checkpoints.huggingface.models import (
    LABELS,
    LIMIT,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from test.checkpoints.huggingface.processors import pictures
from test.checkpoints.huggingface.test_siglip import TEXT
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.building.build import with_network_size
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

TOWER = {name: value for name, value in WITH_MLP.items() if name != "image_size"}
TOWER |= {"num_patches": 16}
WHOLE = {"vision_config": TOWER, "text_config": TEXT}
CASES = {
    "whole": (Siglip2Model, Siglip2Config(**WHOLE)),
    "tower": (Siglip2VisionModel, Siglip2VisionConfig(**TOWER)),
    "tower without head": (
        Siglip2VisionModel,
        Siglip2VisionConfig(**TOWER, vision_use_head=False),
    ),
    "classifier": (Siglip2ForImageClassification, Siglip2Config(**WHOLE, id2label=LABELS)),
}
# google/siglip2-base-patch16-naflex, as published, with smaller patches.
PUBLISHED = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Siglip2ImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_num_patches": 16,
    "patch_size": 8,
    "processor_class": "Siglip2Processor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
}


def naflex(images):
    """Images (B, 3, H, W) as their model takes them: patches, a mask of ones, the grid."""
    grid = [side // 8 for side in images.shape[2:]]
    patches = np.stack([convert_image_to_patches(image.numpy(), 8) for image in images])
    return {
        "pixel_values": torch.from_numpy(patches),
        "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.long),
        "spatial_shapes": torch.tensor([grid] * len(images)),
    }


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    assert (loaded.card.family, loaded.projection) == ("siglip2", None)
    tower = getattr(theirs, "vision_model", theirs)
    for size in ((32, 32), (48, 24), (40, 64), (16, 16)):
        images = torch.randn(2, 3, *size)
        given = naflex(images)
        out = tower(**given)
        assert out.last_hidden_state.std(dim=1).mean() > 0.3
        ours = loaded.model(images)
        assert largest_difference(ours.patch_tokens, out.last_hidden_state) <= LIMIT
        if case in ("whole", "tower"):
            assert largest_difference(ours.cls_token, out.pooler_output) <= LIMIT
        if case == "classifier":
            assert largest_difference(ours.logits, theirs(**given).logits) <= LIMIT
            assert loaded.card.labels == tuple(LABELS.values())
    assert all(
        name.startswith(("text_model.", "logit_", "vision_model.head.")) for name in loaded.unused
    )


def test_pixels_and_tokens_are_their_processors_at_the_grid_that_it_takes(tmp_path):
    theirs = randomised(*CASES["tower"])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    assert loaded.card.rule == ResizeRule((32, 32), "stretch", interpolation="bilinear")
    fields = {name: value for name, value in PUBLISHED.items() if not name.endswith("_type")}
    processor = Siglip2ImageProcessorPil(**fields)
    grids = set()
    for pixels in pictures():
        given = processor(pixels, return_tensors="pt")
        rows, columns = given["spatial_shapes"][0].tolist()
        grids.add((rows, columns))
        patches = given["pixel_values"][0, : rows * columns].reshape(rows, columns, 8, 8, 3)
        images = patches.permute(4, 0, 2, 1, 3).reshape(1, 3, rows * 8, columns * 8)
        fitted = with_network_size(loaded, (rows * 8, columns * 8))
        ours = Preprocessor(fitted.card.rule)(RgbImage(pixels, 1, "camera")).float() / 127.5 - 1
        assert (ours - images[0]).abs().mean() / 2 <= 1 / 255
        tokens = theirs(**given).last_hidden_state[:, : rows * columns]
        assert largest_difference(loaded.model(images).patch_tokens, tokens) <= LIMIT
    assert len(grids) > 2


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"num_patches": 15}, "num_patches is 15; accepted: a square"),
        ("config.json", {"num_patches": 10**9}, "num_patches is 1000000000; accepted: an integer"),
        ("config.json", {"num_patches": 25}, "mis-shaped"),
        ("preprocessor_config.json", {"patch_size": 16}, "patch_size is 16; accepted: 8"),
        ("preprocessor_config.json", {"max_num_patches": "9"}, "max_num_patches is '9'"),
        ("preprocessor_config.json", {"max_num_patches": 0}, "max_num_patches is 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(file, changes, message, tmp_path):
    folder = saved(randomised(*CASES["tower"]), tmp_path, preprocessor=PUBLISHED)
    fields = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**fields, **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_another_bound_on_patches_is_another_size(tmp_path):
    folder = saved(
        randomised(*CASES["tower"]), tmp_path, preprocessor={**PUBLISHED, "max_num_patches": 30}
    )
    assert load_checkpoint(folder).card.rule.network_size_px == (40, 40)
