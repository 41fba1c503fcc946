"""Learned position embeddings on another grid: each family resizes them by a rule of its own.

The rules, by the names in ``INTERPOLATIONS``: ``bicubic`` (Hugging Face's ViT, DeiT, DINOv2, CLIP,
SigLIP), ``bicubic_antialias`` (timm's ``resample_abs_pos_embed``, DINOv2 with registers),
``bicubic_offset`` (DINO, arXiv:2104.14294, and DINOv2, arXiv:2304.07193, as Meta wrote them),
``bilinear`` (DPT, arXiv:2103.13413), ``bilinear_antialias`` (SigLIP 2, arXiv:2502.14786),
``bilinear_corners`` (Google's ViT, which calls ``scipy.ndimage.zoom`` with order 1) and
``bilinear_cut`` (RADIO, arXiv:2412.07679). ``bucketised`` (SmolVLM, Idefics) interpolates nothing:
each patch takes the learned position of its fraction of the side.
"""

import torch
from torch import Tensor
from torch.nn import functional

INTERPOLATIONS = (
    "bicubic",
    "bicubic_antialias",
    "bicubic_offset",
    "bilinear",
    "bilinear_antialias",
    "bilinear_corners",
    "bilinear_cut",
    "bucketised",
)


def resize_grid(learned: Tensor, grid: tuple[int, int], interpolation: str) -> Tensor:
    """``learned`` (1, D, rows, columns) to (1, D, *grid), in the dtype of ``learned``.

    All but ``bilinear_corners`` align the pixels' edges, not their centres; ``bicubic_offset``
    takes its scale from a grid that is 0.1 larger, so that it differs a little. ``antialias`` also
    changes the cubic kernel (a = -0.5, else -0.75), so it differs when a grid grows, too. ``cut``
    resizes to a square of the grid's longer side and keeps its top left part.
    """
    if interpolation == "bucketised":
        rows, columns = (buckets(new, old) for new, old in zip(grid, learned.shape[2:]))
        return learned[:, :, rows][:, :, :, columns]
    mode, _, variant = interpolation.partition("_")
    if variant == "cut":
        square = resize_grid(learned, (max(grid),) * 2, mode)
        return square[:, :, : grid[0], : grid[1]]
    options = {"align_corners": variant == "corners", "antialias": variant == "antialias"}
    if variant == "offset":
        options["scale_factor"] = tuple(
            (new + 0.1) / old for new, old in zip(grid, learned.shape[2:])
        )
    else:
        options["size"] = grid
    # In float64: half precision shifts the embedding, and float32 rounds differently from CPU to
    # CPU, so that an engine built ahead on one machine would not be found, by the digest of its
    # weights, on the next.
    return functional.interpolate(learned.double(), mode=mode, **options).to(learned.dtype)


def buckets(count: int, learned: int) -> Tensor:
    """For each of ``count`` patches along a side, which of ``learned`` positions it takes.

    In float32 as the models' own code has it: where a patch begins on an edge, rounding decides.
    On as many patches as positions this need not be one after another.
    """
    edges = torch.arange(1 / learned, 1.0, 1 / learned)
    starts = torch.arange(count, dtype=torch.float32) * (1.0 / torch.tensor(count))
    return torch.bucketize(starts.clamp(max=1.0 - 1e-6), edges, right=True)
