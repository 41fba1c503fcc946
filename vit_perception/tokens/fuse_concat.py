"""The embedding that needs no weights: CLS, pose and state tokens side by side."""

from collections.abc import Sequence

import numpy as np

from vit_perception.wire.records import TokenGroup, TokenSequence


class Concat:
    """Each camera's CLS token, then each pose and each state token, in layout order; a missing one
    is zeros.

    The width never changes while cameras and arms come and go.
    """

    kind = "concat"
    weights_sha256 = ""

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """(L,) float32, a new array."""
        parts = [
            (group.tokens if group.valid else np.zeros_like(group.tokens)).reshape(-1)
            for group in _joined(sequence.groups)
        ]
        return (
            np.concatenate(parts).astype(np.float32, copy=False)
            if parts
            else np.zeros(0, np.float32)
        )


def _joined(groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    return [group for kind in ("cls", "pose", "state") for group in groups if group.kind == kind]
