"""Axial rotary position embedding of patch tokens.

Rotary embedding: Su et al. 2021 (arXiv:2104.09864). A patch lies at (y, x). A quarter of a head's
channels turns by y, a quarter by x, and channel i turns together with channel i + d/2. Places are
centres, from -1 to 1 over the image whatever the grid, as DINOv3 has them (Siméoni et al. 2025,
arXiv:2508.10104), or rows and columns (Perception Encoder, arXiv:2504.13181).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """``cos`` and ``sin`` (N, d) of every token and channel of a head; the first half of ``sin`` is
    negated.
    """

    cos: Tensor
    sin: Tensor


def places_of(
    grid: tuple[int, int],
    kind: str = "centres",
    first_index: int = 0,
    spread: tuple[int, int] | None = None,
) -> Tensor:
    """Give the places (P, 2), float64, y then x, of ``grid`` (rows, columns) patches.

    ``kind`` is one of ``ROPE_PLACES``. Indices start at ``first_index``, and are scaled as if the
    grid were ``spread`` (rows, columns).
    """
    axes = []
    for count, wanted in zip(grid, spread or grid):
        index = torch.arange(count, dtype=torch.float64)
        if kind == "centres":
            axes.append(2 * math.pi * ((index + 0.5) / count * 2 - 1))
        else:
            axes.append((index + first_index) / count * wanted)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)


def rotation_of(places: Tensor, first_patch: int, head_width: int, theta: float) -> Rotation:
    """The rotation, float32, of ``first_patch`` tokens that do not turn and of the patches at
    ``places`` (P, 2).

    ``head_width`` is d, a multiple of 4. Angles are computed in float64 and rounded once; a model
    in half precision casts the tables, not the angles.
    """
    powers = torch.arange(head_width // 4, dtype=torch.float64) * 4 / head_width
    angles = (places[:, :, None] / theta**powers).flatten(1)  # (P, d / 2)
    still = torch.zeros(first_patch, head_width // 2, dtype=torch.float64)
    angles = torch.cat([still, angles])  # (N, d / 2)
    cos = torch.cos(angles)
    sin = torch.sin(angles)
    return Rotation(torch.cat([cos, cos], dim=1).float(), torch.cat([-sin, sin], dim=1).float())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys (B, heads, N, d), each token turned to its place, in the dtype of ``x``."""
    low, high = x.chunk(2, dim=-1)
    return x * rotation.cos.to(x.dtype) + torch.cat([high, low], dim=-1) * rotation.sin.to(x.dtype)
