"""Pictures of features for people: PCA of the patch tokens as colours, attention as a heat map.
numpy and OpenCV.
"""

from collections.abc import Sequence

import numpy as np

from vit_perception.image.opencv import cv2


class PcaView:
    """Patch tokens as RGB: the three main directions of their variation, as in the DINOv2 paper
    (figure 1).

    The directions are learned from the first ``frames`` frames, one image of many places, and then
    kept, so that a colour means the same from frame to frame.
    """

    def __init__(self, frames: int = 20):
        self._frames_left = frames
        self._count = 0
        self._sum: np.ndarray = np.zeros(())
        self._products: np.ndarray = np.zeros(())
        self._mean: np.ndarray = np.zeros(0)
        self._axes: np.ndarray | None = None  # (D, 3)
        self._low: np.ndarray = np.zeros(0)
        self._high: np.ndarray = np.zeros(0)

    def __call__(
        self, patch_tokens: np.ndarray, grid: tuple[int, int], size_px: tuple[int, int]
    ) -> np.ndarray:
        """``patch_tokens`` (P, D) on ``grid`` (rows, columns) as (H, W, 3) uint8 RGB of ``size_px``
        (H, W).
        """
        if self._frames_left > 0:
            self._learn(patch_tokens.astype(np.float64))
        colours = (patch_tokens - self._mean) @ self._axes  # (P, 3)
        unit = np.clip((colours - self._low) / np.maximum(self._high - self._low, 1e-9), 0.0, 1.0)
        small = np.rint(255 * unit).astype(np.uint8).reshape(*grid, 3)
        large: np.ndarray = cv2.resize(small, size_px[::-1], interpolation=cv2.INTER_CUBIC)
        return large

    @classmethod
    def learned_from(cls, frames: Sequence[np.ndarray]) -> "PcaView":
        """Return a view whose colours mean the same in all ``frames``, each (P, D).

        The colours span what occurs in all of them. Nothing more is learned afterwards.
        """
        view = cls(frames=len(frames))
        for tokens in frames:
            view._learn(tokens.astype(np.float64))
        colours = np.concatenate([(tokens - view._mean) @ view._axes for tokens in frames])
        view._low, view._high = np.percentile(colours, (2, 98), axis=0)
        return view

    def _learn(self, tokens: np.ndarray) -> None:
        self._frames_left -= 1
        self._count += len(tokens)
        self._sum = self._sum + tokens.sum(axis=0)
        self._products = self._products + tokens.T @ tokens
        self._mean = self._sum / self._count
        _, vectors = np.linalg.eigh(self._products / self._count - np.outer(self._mean, self._mean))
        axes = vectors[:, :-4:-1]  # (D, 3), largest variance first
        if self._axes is not None:
            # An eigenvector's sign is arbitrary: keep the one that agrees with the frame before.
            axes = axes * np.where(np.sum(axes * self._axes, axis=0) < 0, -1.0, 1.0)
        self._axes = axes
        colours = (tokens - self._mean) @ axes
        self._low, self._high = np.percentile(colours, (2, 98), axis=0)


def attention_colours(levels: np.ndarray) -> np.ndarray:
    """Return the colours (H, W, 3) uint8 RGB of attention ``levels`` (H, W) uint8."""
    heat: np.ndarray = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return heat


def attention_view(cls_attention: np.ndarray, grid: tuple[int, int], rgb: np.ndarray) -> np.ndarray:
    """The CLS query's attention, mean of the heads, as a heat map over the image.

    ``cls_attention`` (heads, P), ``rgb`` (H, W, 3) uint8 of the pixels that the network saw;
    returns the same shape and type.
    """
    weights = cls_attention.mean(axis=0).reshape(grid)
    # The upper end is a percentile: one outlier patch would leave the rest black.
    low, high = weights.min(), np.percentile(weights, 99)
    unit = np.clip((weights - low) / max(high - low, 1e-12), 0.0, 1.0)
    large = cv2.resize(
        np.rint(255 * unit).astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    heat = attention_colours(large)
    return cv2.addWeighted(np.ascontiguousarray(rgb), 0.45, np.ascontiguousarray(heat), 0.75, 0.0)
