"""A dense head at work: from the engine's tokens to a depth or class image of camera size."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.image.patch_geometry import ResizePlan

# Classes resized at once: 150 of them in 1080p would be 1.2 GB.
_CLASSES_AT_ONCE = 8


class DenseMap:
    """``spec`` on ``grid`` (rows, columns) in float32 torch, on GPU ``gpu_index`` if torch has one.

    Use it from one thread at a time. The head moves to its device at the first call.
    """

    def __init__(self, spec: DenseHeadSpec, grid: tuple[int, int], gpu_index: int = 0):
        self.spec = spec
        self.grid = grid
        self.device = (
            torch.device("cuda", gpu_index) if torch.cuda.is_available() else torch.device("cpu")
        )
        # The label of a pixel that the network did not see, and the type that holds it and all
        # classes.
        self.no_label = 0 if spec.kind == "depth" else 255 if len(spec.labels) <= 255 else 65535

    def __call__(self, block_tokens: np.ndarray, plan: ResizePlan) -> np.ndarray:
        """Turn ``block_tokens`` (blocks, N, D) float32 of one image into (H, W) of its source size.

        Depth is float32, and NaN where the network saw nothing (the border of a crop, and what is
        outside the region of interest). Classes are
        uint8, or uint16 above 255 classes, and ``no_label`` there. Resizing is that of
        transformers: depth bicubic, class scores bilinear.
        """
        with torch.inference_mode():
            values = self.network_map(torch.from_numpy(block_tokens)[:, None])[0]
            if self.spec.kind == "depth":
                depth = to_source(values[None], plan, "bicubic")[0].cpu().numpy()
                depth[~seen_by_network(plan)] = np.nan
                return depth
            labels = (
                best_class(values, plan)
                .cpu()
                .numpy()
                .astype(np.uint8 if self.no_label == 255 else np.uint16)
            )
        labels[~seen_by_network(plan)] = self.no_label
        return labels

    def network_map(self, tokens: Tensor) -> Tensor:
        """Run the head: (B, h, w) or (B, K, h, w) over the network's input.

        ``tokens`` are (blocks, B, N, D).
        """
        module = self.spec.module.to(self.device)
        return module(list(tokens.to(self.device)), self.grid)


def best_class(scores: Tensor, plan: ResizePlan) -> Tensor:
    """Return the class with the highest score in each source pixel, (H, W) int64.

    ``scores`` are (K, h, w) over the network's input.
    """
    best = None
    label = None
    for start in range(0, len(scores), _CLASSES_AT_ONCE):
        values, index = to_source(scores[start : start + _CLASSES_AT_ONCE], plan, "bilinear").max(
            dim=0
        )
        if best is None:
            best = values
            label = index
        else:
            higher = values > best
            best = torch.where(higher, values, best)
            label = torch.where(higher, index + start, label)
    return label


def to_source(values: Tensor, plan: ResizePlan, mode: str) -> Tensor:
    """Resize (C, h, w) over the network's input to (C, H, W) over the source image.

    ``mode`` is ``bilinear`` or ``bicubic``; pixels are aligned by their edges. Beyond the map its
    edge is repeated.
    """
    whole = plan.roi is None
    if whole and plan.resized_size_px == plan.network_size_px and plan.top_left_px == (0, 0):
        return functional.interpolate(values[None], plan.source_size_px, mode=mode)[0]
    # -1 to 1 from edge to edge of the map, which grid_sample takes in the order x, y.
    y, x = (
        torch.from_numpy(2 * centres / length - 1).to(values)
        for centres, length in zip(_centres(plan), plan.network_size_px)
    )
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=2)
    return functional.grid_sample(
        values[None], places[None], mode=mode, padding_mode="border", align_corners=False
    )[0]


def seen_by_network(plan: ResizePlan) -> np.ndarray:
    """Return (H, W) bool: whether a source pixel's centre is in the network's input."""
    rows, columns = (
        (centres >= 0) & (centres <= length)
        for centres, length in zip(_centres(plan), plan.network_size_px)
    )
    x, y, width, height = plan.region
    # Beyond the region there may be padding, which the network saw in the place of these pixels.
    for seen, start, length in ((rows, y, height), (columns, x, width)):
        seen[:start] = seen[start + length :] = False
    return rows[:, None] & columns[None]


def _centres(plan: ResizePlan) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of the source's rows and columns in px of the network's input."""
    return tuple(
        (np.arange(length) + 0.5) * scale + offset
        for length, scale, offset in zip(plan.source_size_px, plan.scale, plan.offset_px)
    )
