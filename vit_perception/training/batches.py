"""Batches of images, decoded and resized by threads ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

LOOK_AHEAD = 2  # batches


def order_of(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order (count,) in which ``epoch`` visits the images."""
    # The third number keeps it apart from the generators of single pictures.
    return np.random.default_rng([seed, epoch, 1 << 40]).permutation(count)


def batches(
    indices: Sequence[int], size: int, load: Callable[[int], Tensor], pool: ThreadPoolExecutor
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield (indices (B,), images (B, 3, H, W) uint8) in order.

    ``load`` gives one image (3, H, W) and runs in ``pool``, up to ``LOOK_AHEAD`` batches ahead.
    What it raises is raised when its batch is due.
    """
    parts = [np.asarray(indices[start : start + size]) for start in range(0, len(indices), size)]
    waiting: deque = deque()
    try:
        for k in range(len(parts) + LOOK_AHEAD):
            if k < len(parts):
                waiting.append([pool.submit(load, int(index)) for index in parts[k]])
            if k >= LOOK_AHEAD:
                yield (
                    parts[k - LOOK_AHEAD],
                    torch.stack([future.result() for future in waiting.popleft()]),
                )
    finally:
        for futures in waiting:
            for future in futures:
                future.cancel()
