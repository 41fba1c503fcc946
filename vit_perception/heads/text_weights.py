"""Classes by their names: the image embedding against the embeddings of prompts (CLIP, SigLIP).

numpy only, so that a head is the same for every engine. Sources: Radford et al. 2021
(arXiv:2103.00020) and Zhai et al. 2023 (arXiv:2303.15343) for the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.classification import scores_of

PLACE = "{}"


def prompts_of(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Put each label into each template, all templates of the first label first."""
    return [template.replace(PLACE, label) for label in labels for template in templates]


def class_embeddings(embeddings: np.ndarray, templates: int) -> np.ndarray:
    """Turn vectors of prompts (K · templates, E) into unit vectors of classes (K, E) float32.

    Prompts are scaled to unit length, averaged over the templates, and scaled again, as CLIP's
    authors do.
    """
    unit = _unit(np.asarray(embeddings, dtype=np.float64))
    return _unit(unit.reshape(-1, templates, unit.shape[1]).mean(axis=1)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ZeroShotHead:
    """Scores of K classes from an image's pooled vector, the encoder's ``cls_token`` (D,).

    logits = scale · cos + bias.

    Raises:
        ValueError: The shapes do not fit.
    """

    # The K class names.
    labels: tuple[str, ...]
    # (K, E), unit vectors.
    texts: np.ndarray
    # Of the cosine, and added to it.
    scale: float
    bias: float = 0.0
    # (E, D), takes the pooled vector to the texts' space; None if it is there already.
    projection: np.ndarray | None = None
    # Makes scores: ``softmax`` (CLIP), or ``sigmoid`` (SigLIP: classes that do not exclude others).
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
        """Compute logits (K,) float32 of one image."""
        pooled = np.asarray(cls_token, dtype=np.float32)
        embedding = _unit(pooled if self.projection is None else self.projection @ pooled)
        return (self.scale * (self.texts @ embedding) + self.bias).astype(np.float32)

    def scores(self, cls_token: np.ndarray, patch_tokens: np.ndarray | None = None) -> np.ndarray:
        """Compute scores (K,) float32 of one image; ``patch_tokens`` are not used."""
        return scores_of(self.logits(cls_token), self.kind)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` (…, E) divided by their length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
