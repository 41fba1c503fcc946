"""The embedding that needs no weights: all tokens but the patches', in one vector."""

import numpy as np

from vit_perception.wire.records import TokenSequence


class Concat:
    """Each camera's CLS token, then one token of each other source, in layout order.

    A missing token is zeros, so the width never changes while sources come and go.
    """

    kind = "concat"
    weights_sha256 = ""

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """(L,) float32, a new array."""
        joined = [group for group in sequence.groups if group.embedded]
        joined.sort(key=lambda group: group.kind != "cls")
        parts = [
            (group.tokens if group.valid else np.zeros_like(group.tokens)).reshape(-1)
            for group in joined
        ]
        return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32, copy=False)
