"""DeiT of transformers: the distillation token, both kinds of heads, and its processor."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTModel,
)

from test.checkpoints.huggingface.models import (
    LABELS,
    LIMIT,
    SPELLINGS,
    WITH_MLP,
    largest_difference,
    randomised,
    saved,
)
from test.checkpoints.huggingface.processors import mean_difference
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule

CASES = {
    "model": (DeiTModel, {}),
    "classifier": (DeiTForImageClassification, {"id2label": LABELS}),
    "classifier with teacher": (DeiTForImageClassificationWithTeacher, {"id2label": LABELS}),
}
# facebook/deit-base-distilled-patch16-224, and -384, as published; transformers reads the number as
# a square.
PUBLISHED = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "DeiTFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 256,
}
PUBLISHED_384 = {**PUBLISHED, "crop_size": 384, "size": 438}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", CASES)
def test_parity(case, spelling, tmp_path):
    kind, fields = CASES[case]
    theirs = randomised(kind, DeiTConfig(**WITH_MLP, **fields))
    loaded = load_checkpoint(saved(theirs, tmp_path, spelling))
    assert loaded.card.family == "deit" and loaded.model.config.distillation_token
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        out = theirs(
            images, interpolate_pos_encoding=True, output_hidden_states=True, output_attentions=True
        )
        norm = getattr(theirs, "deit", theirs).layernorm
        tokens = norm(out.hidden_states[-1])
        assert tokens[:, 2:].std(dim=1).mean() > 0.3
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, 2:]) <= LIMIT
        assert largest_difference(ours.cls_attention, out.attentions[-1][:, :, 0, 2:]) <= LIMIT
        if fields:
            assert largest_difference(ours.logits, out.logits) <= LIMIT
    assert loaded.card.labels == (tuple(LABELS.values()) if fields else ())
    assert set(loaded.unused) == (set() if fields else {"pooler.dense.weight", "pooler.dense.bias"})
    if "teacher" in case:
        # Both heads count: neither alone gives these logits.
        assert largest_difference(ours.logits, out.cls_logits) > 0.1


@pytest.mark.parametrize(
    "published, rule",
    [
        (PUBLISHED, ResizeRule((224, 224), "stretch_crop", 256)),
        (PUBLISHED_384, ResizeRule((384, 384), "stretch_crop", 438)),
    ],
    ids=["224", "384"],
)
def test_published_preprocessing_is_their_processors(published, rule, tmp_path):
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    assert preprocessing_of(tmp_path, "bicubic") == (
        rule,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    fields = {name: value for name, value in published.items() if name != "feature_extractor_type"}
    differences = mean_difference(
        DeiTImageProcessorPil(**fields), *preprocessing_of(tmp_path, "bicubic")
    )
    assert np.max(differences) <= 1 / 255, differences
