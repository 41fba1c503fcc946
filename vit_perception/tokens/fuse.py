"""Choose the fusion that the settings name."""

from typing import Protocol

import numpy as np

from vit_perception.config.settings import FusionSettings
from vit_perception.tokens.fuse_concat import Concat
from vit_perception.tokens.fuse_cross_attention import CrossAttention
from vit_perception.wire.records import TokenSequence


class Fusion(Protocol):
    """Makes one embedding of a token sequence."""

    kind: str  # concat or cross_attention
    weights_sha256: str  # empty if it has no weights

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """Return the embedding (L,) float32.

        L is the same for every sequence of the same groups, also if all are missing.
        """
        ...


def make_fusion(settings: FusionSettings, width: int) -> Fusion:
    """Return the fusion of ``settings`` for tokens of ``width``.

    Raises:
        BadWeights: the file of weights does not fit.
    """
    if settings.kind == "cross_attention":
        return CrossAttention(settings.weights, width)
    return Concat()
