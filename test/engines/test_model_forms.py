"""Engines open, and agree, with models that have no CLS token, turn their patches, attend in
windows, norm otherwise, pool otherwise, or end in two heads.
"""

from dataclasses import replace

import pytest
import torch

from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.select import open_engine
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

FORMS = {
    "attention pooling": {"cls_token": False, "pooling": "map"},
    "mean pooling": {"cls_token": False, "pooling": "mean", "register_tokens": 0},
    "rope": {"rope_theta": 100.0, "position_embedding": "none"},
    "attention pooling of all tokens": {
        "pooling": "map_all",
        "pooling_heads": 2,
        "rope_theta": 100.0,
        "rope_places": "indices",
        "rope_grid": (4, 4),
        "head": "linear",
        "classes": 5,
    },
    "RMSNorm": {"norm": "rms", "qk_norm": True, "final_norm": False},
    "windows": {
        "cls_token": False,
        "register_tokens": 0,
        "pooling": "mean",
        "window_patches": 3,
        "full_blocks": (1,),
        "rope_theta": 100.0,
        "rope_places": "indices",
    },
    "CLS set": {"pooling": "cls_set", "cls_set": 2, "head": "linear", "classes": 5},
    "distilled": {"distillation_token": True, "head": "distilled", "classes": 7},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_it_opens_and_passes_the_gate(loaded, pictures, form, backend):
    if backend != "torch":
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    torch.manual_seed(0)
    model = VisionTransformer(replace(VARIANTS["test"], **FORMS[form])).eval().requires_grad_(False)
    opened = open_engine(
        EngineSettings(backend=backend, precision="float32"), LoadedModel(model, loaded.card), 2
    )
    try:
        output = opened.engine.infer(pictures[:2])
        assert output.cls_attention.shape == (2, 4, 64)
        assert (output.cls_attention.sum(axis=2) < 1 + 1e-4).all()
        assert opened.report.min_cosine > 0.9999
        if form in ("mean pooling", "windows"):
            assert abs(output.cls_attention - 1 / 64).max() < 1e-6
    finally:
        opened.engine.close()
