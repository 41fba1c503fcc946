"""Classes by their names: the image embedding against the embeddings of prompts (CLIP, SigLIP).

numpy only, so that a head is the same behind every engine. Sources: Radford et al. 2021
(arXiv:2103.00020) and Zhai et al. 2023 (arXiv:2303.15343) for the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.classification import scores_of

PLACE = "{}"


def prompts_of(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Each label in each template, all templates of the first label first."""
    return [template.replace(PLACE, label) for label in labels for template in templates]


def class_embeddings(embeddings: np.ndarray, templates: int) -> np.ndarray:
    """The classes' unit vectors (K, E) float32 from those of :func:`prompts_of` (K · templates, E),
    of any length.

    Prompts are made unit vectors, averaged over the templates, and made a unit vector again, as
    CLIP's authors do.
    """
    unit = _unit(np.asarray(embeddings, dtype=np.float64))
    return _unit(unit.reshape(-1, templates, unit.shape[1]).mean(axis=1)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ZeroShotHead:
    """Scores of K classes from an image's pooled vector, the encoder's ``cls_token`` (D,).

    ``texts`` (K, E) are unit vectors; ``projection`` (E, D) takes the pooled vector to their space,
    None where it is there already. logits = scale · cos + bias. ``kind`` makes scores of them:
    ``softmax`` (CLIP), or ``sigmoid`` (SigLIP), whose classes do not exclude each other. Raises
    ValueError for shapes that do not fit.
    """

    labels: tuple[str, ...]
    texts: np.ndarray
    scale: float
    bias: float = 0.0
    projection: np.ndarray | None = None
    kind: str = "softmax"

    def __post_init__(self):
        if (
            self.texts.ndim != 2
            or len(self.texts) != len(self.labels)
            or (self.projection is not None and len(self.projection) != self.texts.shape[1])
        ):
            projected = None if self.projection is None else self.projection.shape
            raise InvalidValue(
                f"texts of a zero-shot head have the shape {self.texts.shape}, its projection "
                f"{projected}; accepted: ({len(self.labels)}, E), and (E, D)"
            )

    def logits(self, cls_token: np.ndarray) -> np.ndarray:
        """Logits (K,) float32 of one image."""
        pooled = np.asarray(cls_token, dtype=np.float32)
        embedding = _unit(pooled if self.projection is None else self.projection @ pooled)
        return (self.scale * (self.texts @ embedding) + self.bias).astype(np.float32)

    def scores(self, cls_token: np.ndarray, patch_tokens: np.ndarray | None = None) -> np.ndarray:
        """Scores (K,) float32 of one image; ``patch_tokens`` are not looked at."""
        return scores_of(self.logits(cls_token), self.kind)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` (…, E) divided by their length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
