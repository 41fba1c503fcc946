"""Axial rotary position embedding of patch tokens, as DINOv3 has it (Siméoni et al. 2025,
arXiv:2508.10104).

Rotary embedding: Su et al. 2021 (arXiv:2104.09864). A patch's centre lies at (y, x), each from -1
to 1 over the image whatever the grid; a quarter of a head's channels turns by y, a quarter by x,
and channel i turns together with channel i + d/2.
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


def rotation_of(grid: tuple[int, int], first_patch: int, head_width: int, theta: float) -> Rotation:
    """The rotation, float32, of ``first_patch`` tokens that do not turn and of ``grid`` (rows,
    columns) patches.

    ``head_width`` is d, a multiple of 4. Angles are computed in float64 and rounded once; a model
    in half precision casts the tables, not the angles.
    """
    centres = [(torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1 for count in grid]
    places = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, 1)  # (P, 2)
    periods = theta ** (
        torch.arange(head_width // 4, dtype=torch.float64) * 4 / head_width
    )  # (d / 4,)
    angles = (2 * math.pi * places[:, :, None] / periods).flatten(1)  # (P, d / 2)
    angles = torch.cat(
        [torch.zeros(first_patch, head_width // 2, dtype=torch.float64), angles]
    )  # (N, d / 2)
    cos, sin = torch.cos(angles), torch.sin(angles)
    return Rotation(torch.cat([cos, cos], dim=1).float(), torch.cat([-sin, sin], dim=1).float())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys (B, heads, N, d), each token turned to its place, in the dtype of ``x``."""
    low, high = x.chunk(2, dim=-1)
    return x * rotation.cos.to(x.dtype) + torch.cat([high, low], dim=-1) * rotation.sin.to(x.dtype)
