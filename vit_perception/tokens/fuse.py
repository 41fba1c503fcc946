"""The fusion that the settings ask for."""

from typing import Protocol

import numpy as np

from vit_perception.config.settings import FusionSettings
from vit_perception.tokens.fuse_concat import Concat
from vit_perception.tokens.fuse_cross_attention import CrossAttention
from vit_perception.wire.records import TokenSequence


class Fusion(Protocol):
    """One embedding per token sequence. ``weights_sha256`` is '' where there are no weights."""

    kind: str
    weights_sha256: str

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """(L,) float32; L is the same for every sequence of the same groups, also when all are
        missing.
        """
        ...


def make_fusion(settings: FusionSettings, width: int) -> Fusion:
    """The fusion of ``settings`` for tokens of ``width``. Raises BadWeights for a file that does
    not fit.
    """
    return (
        CrossAttention(settings.weights, width) if settings.kind == "cross_attention" else Concat()
    )
