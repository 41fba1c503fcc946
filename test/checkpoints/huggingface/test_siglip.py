"""SigLIP and SigLIP 2 of one size: attention pooling, pictures that are no multiple of the patch,
the classifier.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from test.checkpoints.huggingface.models import (
    LABELS,
    LIMIT,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from test.checkpoints.huggingface.processors import mean_difference, pictures
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import PatchGeometry, ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
WHOLE = {"vision_config": WITH_MLP, "text_config": TEXT}
CASES = {
    "whole": (SiglipModel, SiglipConfig(**WHOLE)),
    "tower": (SiglipVisionModel, SiglipVisionConfig(**WITH_MLP)),
    "tower without head": (
        SiglipVisionModel,
        SiglipVisionConfig(**WITH_MLP, vision_use_head=False),
    ),
    "classifier": (SiglipForImageClassification, SiglipConfig(**WHOLE, id2label=LABELS)),
}
# google/siglip-base-patch16-224, siglip-so400m-patch14-384 and siglip2-base-patch16-256, as
# published.
SIGLIP = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
SO400M = {**SIGLIP, "size": {"height": 384, "width": 384}}
SIGLIP2 = {**SIGLIP, "do_convert_rgb": None, "resample": 2, "size": {"height": 256, "width": 256}}


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    """Version 5 saves what its modules are named, so there is one spelling; version 4's tower is
    tested below.
    """
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path))
    assert (loaded.card.family, loaded.projection) == ("siglip", None)
    tower = getattr(theirs, "vision_model", theirs)
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        out = tower(images, interpolate_pos_encoding=True)
        tokens = out.last_hidden_state
        assert tokens.std(dim=1).mean() > 0.3
        ours = loaded.model(images)
        assert largest_difference(ours.patch_tokens, tokens) <= LIMIT
        if case in ("whole", "tower"):
            assert largest_difference(ours.cls_token, out.pooler_output) <= LIMIT
            probe = tower.head.probe.repeat(2, 1, 1)
            weights = tower.head.attention(probe, tokens, tokens, average_attn_weights=False)[1]
            assert largest_difference(ours.cls_attention, weights[:, :, 0]) <= LIMIT
        if case == "classifier":
            assert (
                largest_difference(
                    ours.logits, theirs(images, interpolate_pos_encoding=True).logits
                )
                <= LIMIT
            )
            assert loaded.card.labels == tuple(LABELS.values())
    if case == "whole":
        assert {"logit_scale", "logit_bias", "text_model.head.weight"} <= set(loaded.unused)
    assert all(
        name.startswith(("text_model.", "logit_", "vision_model.head.")) for name in loaded.unused
    )


def test_files_of_version_4(tmp_path):
    theirs = randomised(*CASES["tower"])
    folder = saved(theirs, tmp_path)
    save_file(
        {
            f"vision_model.{name}": tensor
            for name, tensor in load_file(tmp_path / "model.safetensors").items()
        },
        tmp_path / "model.safetensors",
    )
    images = torch.randn(1, 3, 32, 32)
    ours = load_checkpoint(folder).model(images)
    assert largest_difference(ours.cls_token, theirs(images).pooler_output) <= LIMIT


def test_pictures_that_are_no_multiple_of_the_patch(tmp_path):
    """so400m-patch14-384 has 27 x 27 patches of 14 px: 378 px, from the top left corner of 384."""
    preprocessor = {**SIGLIP, "size": {"height": 36, "width": 36}}
    sizes = {**WITH_MLP, "image_size": 36}
    theirs = randomised(SiglipVisionModel, SiglipVisionConfig(**sizes))
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=preprocessor))
    assert loaded.card.rule == ResizeRule((32, 32), "stretch_corner", 36)
    assert loaded.model.config.image_size_px == (32, 32)
    processor = SiglipImageProcessorPil(size={"height": 36, "width": 36})
    for pixels in pictures():
        prepared = processor(pixels, return_tensors="pt")["pixel_values"]
        expected = theirs(prepared)
        # Our uint8 pixels are Pillow's to a level or so; what is compared here is which pixels the
        # patches see.
        cut = prepared[:, :, :32, :32]
        assert (
            largest_difference(loaded.model(cut).patch_tokens, expected.last_hidden_state) <= LIMIT
        )
        ours = Preprocessor(loaded.card.rule)(RgbImage(pixels, 1, "camera")).float() / 127.5 - 1
        assert (ours - cut[0]).abs().mean() / 2 <= 1 / 255
        # A patch's box in the source follows the whole square, of which it sees the corner.
        geometry = PatchGeometry(Preprocessor(loaded.card.rule).plan(pixels.shape[:2]), 8)
        height, width = pixels.shape[:2]
        assert geometry.patch_box_in_source(0) == pytest.approx(
            (0, 0, height * 8 / 36, width * 8 / 36)
        )


@pytest.mark.parametrize(
    "published, network",
    [(SIGLIP, 224), (SO400M, 384), (SIGLIP2, 256)],
    ids=["siglip", "so400m", "siglip2"],
)
def test_published_preprocessing_is_their_processors(published, network):
    fields = {
        key: value
        for key, value in published.items()
        if not key.endswith(("_type", "_class", "_rgb"))
    }
    rule = ResizeRule(
        (network, network),
        "stretch",
        interpolation="bilinear" if published is SIGLIP2 else "bicubic",
    )
    differences = mean_difference(SiglipImageProcessorPil(**fields), rule, (0.5,) * 3, (0.5,) * 3)
    assert np.max(differences) <= 1 / 255, differences


def test_config_json_of_the_hub_names_little(tmp_path):
    """google/siglip-base-patch16-224 gives no sizes: they are transformers' own defaults."""
    saved(randomised(*CASES["tower"]), tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "siglip",
                "text_config": {"model_type": "siglip_text_model"},
                "vision_config": {"model_type": "siglip_vision_model"},
            }
        )
    )
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(tmp_path))
    assert "patch_embedding.projection.weight (768, 3, 16, 16)" in str(error.value)
    assert "position_embedding (1, 196, 768)" in str(error.value)
