"""Measures of positions and attention from the ViT paper (arXiv:2010.11929, figure 7)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vit_perception.model.vision_transformer import VisionTransformer


@dataclass(frozen=True, eq=False)
class PositionSimilarity:
    """How similar the positions of patches are."""

    # (P, P) float32 cosine similarity.
    values: np.ndarray
    # (rows, columns) of patches.
    grid: tuple[int, int]
    # ``learned``: of the embeddings, on the grid that they were learned at. ``rotary``: the mean
    # cosine of the angles between two places, which is the share of a query's product with an
    # equal key that is left.
    kind: str


def position_similarity(
    model: VisionTransformer, grid: tuple[int, int]
) -> PositionSimilarity | None:
    """Compare learned embeddings, or rotary positions on ``grid`` (rows, columns).

    Returns None for a model that has neither.
    """
    config = model.config
    if model.position_embedding is not None:
        vectors = model.position_embedding.detach()[0, config.prefix_tokens :].float()
        return PositionSimilarity(_cosines(vectors), config.grid, "learned")
    if config.rope_theta is None:
        return None
    tables = torch.cat(model.rotation_for(grid), dim=1)[config.first_patch :].float()
    # cos a cos b + sin a sin b = cos(a − b), and every (cos, sin) has the length 1.
    return PositionSimilarity(_cosines(tables), grid, "rotary")


def _cosines(vectors: Tensor) -> np.ndarray:
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return (unit @ unit.T).numpy()


def mean_attention_distance_px(
    weights: Tensor, grid: tuple[int, int], patch_size_px: int
) -> np.ndarray:
    """Return how far each head looks: (heads,) float32, in network pixels.

    It is the distance between patch centres, weighted by attention, and the mean over all queries.
    ``weights`` (heads, P, P) are those of patches to patches. The weights of a query are scaled to
    the sum 1, since other tokens have no place.
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places_px = torch.stack([rows, columns], dim=-1).flatten(0, 1).float() * patch_size_px  # (P, 2)
    apart_px = torch.cdist(places_px, places_px)  # (P, P)
    shares = weights / weights.sum(dim=2, keepdim=True)
    return (shares * apart_px).sum(dim=2).mean(dim=1).float().numpy()
