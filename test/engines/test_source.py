"""What an engine is opened from: the reference outputs are computed once, and end with it."""

import gc
import weakref

import numpy as np

from vit_perception.engines.source import EngineSource


def test_the_reference_is_computed_once_for_the_same_images(source):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    own = EngineSource(source.graph, 2)
    first = own.reference(images)
    assert own.reference(images.copy()) is first
    assert own.reference(images[:2]).cls_token.shape == (2, 32)
    assert own.reference(images[::-1].copy()) is not first


def test_reference_outputs_end_with_their_source(source, pictures):
    """Regression: they were kept for the life of the process, 150 MB each for a dense ViT-L."""
    own = EngineSource(source.graph, 2)
    outputs = weakref.ref(own.reference(pictures).patch_tokens)
    assert outputs() is not None
    del own
    gc.collect()
    assert outputs() is None
