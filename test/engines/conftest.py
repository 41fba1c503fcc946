"""A tiny random model as a loaded checkpoint, an empty engine cache, and an engine source made of
them.
"""

import numpy as np
import pytest
import torch

from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.parity_gate import parity_batch
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.model.model_card import ModelCard
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

BATCH = 2


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    """The `test` variant, seeded; 64 x 64 px."""
    torch.manual_seed(0)
    card = ModelCard(
        "tiny",
        "test",
        "",
        "random",
        ResizeRule((64, 64), fit="crop"),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    return LoadedModel(VisionTransformer(VARIANTS["test"]).eval(), card)


@pytest.fixture(scope="session")
def pictures(loaded):
    """The parity pictures for a batch of 2, (4, 3, 64, 64) uint8."""
    return parity_batch(Preprocessor(loaded.card.rule), BATCH)


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory):
    """One engine cache for the session, so that a graph is exported once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache_home(cache_home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.fixture(scope="session")
def source(loaded, cache_home) -> EngineSource:
    def calibration():
        return np.random.default_rng(0).permutation(
            parity_batch(Preprocessor(loaded.card.rule), 16)
        )

    return EngineSource(
        graph_of(loaded),
        BATCH,
        folder=cache_home / "vit_perception" / "engines",
        calibration=calibration,
    )
