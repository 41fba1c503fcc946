"""Windowed attention of Qwen2.5-VL (arXiv:2502.13923): patches see their own window alone."""

import torch
from torch import Tensor

# Added to a score, it leaves a softmax nothing. Finite in half precision.
_APART = -60_000.0


def window_mask(grid: tuple[int, int], side: int, like: Tensor) -> Tensor:
    """Make what is added to scores (P, P): 0 in a window of ``side`` x ``side`` patches.

    Windows are counted from the top left of ``grid`` (rows, columns); those at the right and bottom
    edge may be smaller. Dtype and device are those of ``like``.
    """
    rows, columns = (torch.arange(count, device=like.device) // side for count in grid)
    window = (rows[:, None] * grid[1] + columns).flatten()  # (P,)
    return (window[:, None] != window).to(like.dtype) * _APART
