"""Fusion without weights: all tokens except those of patches, in one vector."""

import numpy as np

from vit_perception.wire.records import TokenSequence


class Concat:
    """Concatenates each camera's CLS token, then one token of each other source, in layout order.

    Of several encoders a camera has one CLS token each, one after another.

    A missing token is zeros, so the width never changes.
    """

    kind = "concat"
    weights_sha256 = ""

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """Return the embedding (L,) float32, a new array."""
        joined = [group for group in sequence.groups if group.embedded]
        joined.sort(key=lambda group: group.kind != "cls")
        parts = [group.masked.reshape(-1) for group in joined]
        return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32, copy=False)
