"""CLIP of transformers: the whole model, its image tower with and without projection, and its
classifier.

transformers gives last_hidden_state before post_layernorm and applies that to the CLS token alone;
our tokens are behind it, so theirs are normed here before they are compared.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPForImageClassification,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from test.checkpoints.huggingface.models import (
    LABELS,
    LIMIT,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from test.checkpoints.huggingface.processors import mean_difference
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXT = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
WHOLE = {"vision_config": WITH_MLP, "text_config": TEXT, "projection_dim": 20}
CASES = {
    "whole": (CLIPModel, CLIPConfig(**WHOLE)),
    "whole, gelu (LAION)": (
        CLIPModel,
        CLIPConfig(**{**WHOLE, "vision_config": {**WITH_MLP, "hidden_act": "gelu"}}),
    ),
    "tower": (CLIPVisionModel, CLIPVisionConfig(**WITH_MLP)),
    "tower with projection": (
        CLIPVisionModelWithProjection,
        CLIPVisionConfig(**WITH_MLP, projection_dim=20),
    ),
    "classifier": (CLIPForImageClassification, CLIPConfig(**WHOLE, id2label=LABELS)),
}
# openai/clip-vit-base-patch32 as first published, openai/clip-vit-large-patch14-336, and laion's in
# today's form.
PUBLISHED = {
    "base": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "resample": 3,
        "size": 224,
    },
    "large 336": {
        "crop_size": 336,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "resample": 3,
        "size": 336,
    },
    "laion": {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(STD),
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 224},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    """Version 5 saves what its modules are named, so there is one spelling; version 4's tower is
    tested below.
    """
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path))
    assert loaded.card.family == "clip"
    tower = getattr(theirs, "vision_model", theirs)
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        out = tower(images, interpolate_pos_encoding=True, output_attentions=True)
        ours = loaded.model(images)
        raw = case == "classifier"
        tokens = out.last_hidden_state if raw else tower.post_layernorm(out.last_hidden_state)
        assert tokens[:, 1:].std(dim=1).mean() > 0.3
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert raw or largest_difference(ours.cls_token, out.pooler_output) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, 1:]) <= LIMIT
        assert largest_difference(ours.cls_attention, out.attentions[-1][:, :, 0, 1:]) <= LIMIT
        if case == "classifier":
            logits = theirs(images, interpolate_pos_encoding=True).logits
            assert largest_difference(ours.logits, logits) <= LIMIT
            assert loaded.card.labels == tuple(LABELS.values())
        if loaded.projection is not None:
            embeds = theirs.visual_projection(out.pooler_output)
            assert (
                largest_difference(ours.pooled @ torch.from_numpy(loaded.projection).T, embeds)
                <= LIMIT
            )
    assert (loaded.projection is not None) == (case.startswith("whole") or "projection" in case)
    unused = set(loaded.unused)
    if case.startswith("whole"):
        assert {
            "logit_scale",
            "text_projection.weight",
            "text_model.final_layer_norm.weight",
        } <= unused
        assert all(name.startswith(("text_", "logit_")) for name in unused)
    else:
        assert unused == (
            {"vision_model.post_layernorm.weight", "vision_model.post_layernorm.bias"}
            if case == "classifier"
            else set()
        )


def test_files_of_version_4(tmp_path):
    """The tower alone has its prefix there, and older files hold tables of indices."""
    theirs = randomised(*CASES["tower"])
    folder = saved(theirs, tmp_path)
    held = {
        f"vision_model.{name}": tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(
        {**held, "vision_model.embeddings.position_ids": torch.arange(17)[None]},
        tmp_path / "model.safetensors",
    )
    loaded = load_checkpoint(folder)
    images = torch.randn(1, 3, 32, 32)
    assert largest_difference(loaded.model(images).cls_token, theirs(images).pooler_output) <= LIMIT
    assert loaded.unused == ("vision_model.embeddings.position_ids",)


def test_sizes_that_config_json_leaves_out_are_those_of_base(tmp_path):
    folder = saved(randomised(*CASES["whole"]), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}}))
    with pytest.raises(CheckpointError, match=r"blocks.11.*mis-shaped|missing") as error:
        load_checkpoint(folder)
    assert "patch_embedding.projection.weight (768, 3, 32, 32)" in str(error.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_preprocessing_is_their_processors(name, tmp_path):
    published = PUBLISHED[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    side = 336 if "336" in name else 224
    assert preprocessing_of(tmp_path, "bicubic") == (
        ResizeRule((side, side), "crop", side),
        MEAN,
        STD,
    )
    fields = {key: value for key, value in published.items() if not key.endswith("_type")}
    differences = mean_difference(
        CLIPImageProcessorPil(**fields), *preprocessing_of(tmp_path, "bicubic")
    )
    assert np.max(differences) <= 1 / 255, differences


def test_preprocessing_that_stands_in_processor_config_json(tmp_path):
    """transformers 5 writes one file for a processor of images and texts."""
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_processor": PUBLISHED["laion"]})
    )
    assert preprocessing_of(tmp_path, "bicubic")[0] == ResizeRule((224, 224), "crop", 224)
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"processor_class": "CLIPProcessor"})
    )
    with pytest.raises(CheckpointError, match="processor_config.json has no 'size'"):
        preprocessing_of(tmp_path, "bicubic")


@pytest.mark.parametrize("case", ["whole", "tower with projection"])
def test_a_model_that_lost_its_projection_is_refused(case, tmp_path):
    folder = saved(randomised(*CASES[case]), tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    del held["visual_projection.weight"]
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="has no visual_projection.weight, the projection"):
        load_checkpoint(folder)
