"""The Vision Transformer: a frozen config, then the model.

Source: Dosovitskiy et al. 2021 (arXiv:2010.11929); register tokens from Darcet et al. 2024 (arXiv:2309.16588).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.model.layers import ACTIVATIONS, Block, PatchEmbedding

POOLINGS = ("cls", "mean", "max", "cls_mean")
HEADS = ("none", "linear", "linear_tanh_linear")


@dataclass(frozen=True)
class ViTConfig:
    """One model's shape. ``image_size_px`` (height, width) is what its position embedding was learned at.

    ``mlp_width`` is the hidden width of the MLP (of one of its two halves for ``swiglu``); ``pooling``
    ``cls_mean`` puts the mean patch token behind the CLS token. Raises ValueError naming the field.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_size_px: int
    image_size_px: tuple[int, int] = (224, 224)
    activation: str = "gelu"
    qkv_bias: bool = True
    layer_scale: bool = False
    norm_before_blocks: bool = False
    norm_eps: float = 1e-6
    cls_token: bool = True
    register_tokens: int = 0
    pooling: str = "cls"
    head: str = "none"
    classes: int = 0

    def __post_init__(self):
        for name in ("width", "depth", "heads", "mlp_width", "patch_size_px"):
            value = getattr(self, name)
            self._require(name, isinstance(value, int) and value >= 1, "an integer of at least 1")
        self._require("heads", self.width % self.heads == 0, f"a divisor of the width {self.width}")
        self._require("image_size_px", all(side > 0 and side % self.patch_size_px == 0 for side in self.image_size_px),
                      f"(height, width), multiples of the patch size {self.patch_size_px}")
        self._require("register_tokens", self.register_tokens >= 0, "an integer of at least 0")
        self._require("cls_token", self.cls_token, "True: the CLS token and its attention are outputs of the encoder")
        self._require("norm_eps", 0 < self.norm_eps < 1, "between 0 and 1")
        for name, accepted in (("activation", (*ACTIVATIONS, "swiglu")), ("pooling", POOLINGS), ("head", HEADS)):
            self._require(name, getattr(self, name) in accepted, "one of " + ", ".join(accepted))
        self._require("classes", (self.classes > 0) == (self.head != "none"), f"0 without a head, else the number of "
                      f"classes (head is {self.head!r})")

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise ValueError(f"{name} of the model is {getattr(self, name)!r}; accepted: {accepted}")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches that the position embedding was learned at."""
        return self.grid_of(*self.image_size_px)

    def grid_of(self, height_px: int, width_px: int) -> tuple[int, int]:
        """(rows, columns) of patches of an image. Raises ValueError where a side is no multiple of the patch."""
        rows, columns = height_px // self.patch_size_px, width_px // self.patch_size_px
        if min(rows, columns) < 1 or (rows * self.patch_size_px, columns * self.patch_size_px) != (height_px, width_px):
            raise ValueError(f"the image is {height_px} x {width_px} px; accepted: both sides multiples of the patch "
                             f"size {self.patch_size_px}")
        return rows, columns


class ViTOutput(NamedTuple):
    """``cls_token`` (B, D), ``patch_tokens`` (B, P, D), ``cls_attention`` (B, heads, P), ``pooled``, ``logits``.

    ``cls_attention`` is the CLS query's softmax over all tokens in the chosen block, patch columns only, so a
    row sums to less than 1. ``pooled`` is (B, D), or (B, 2 D) for ``cls_mean``. ``logits`` (B, classes) or None.
    """

    cls_token: Tensor
    patch_tokens: Tensor
    cls_attention: Tensor
    pooled: Tensor
    logits: Tensor | None


class VisionTransformer(nn.Module):
    """``forward`` takes normalised images (B, 3, H, W); H and W are any multiples of the patch size.

    Tokens are in the order CLS, registers, patches (row-major). Weights start random: load a checkpoint.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        width, rows, columns = config.width, *config.grid
        self.patch_embedding = PatchEmbedding(config.patch_size_px, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + rows * columns, width))
        registers = config.register_tokens
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.norm_before = nn.LayerNorm(width, eps=config.norm_eps) if config.norm_before_blocks else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_width, config.activation, config.qkv_bias, config.layer_scale,
                  config.norm_eps)
            for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.head = make_head(config)

    def forward(self, images: Tensor, block: int = -1) -> ViTOutput:
        """Encode ``images``; tokens, attention and ``pooled`` are those of ``block``, behind the final norm.

        ``block`` counts from 0, or from the end when negative. The final norm is applied to an earlier block's
        tokens too, so that every block's come out at the same scale. ``logits`` are always the last block's:
        a head knows no other; without a head, the blocks behind the chosen one are not run.
        """
        chosen = range(self.config.depth)[block] if -self.config.depth <= block < self.config.depth else None
        if chosen is None:
            raise ValueError(f"block is {block}; accepted: {-self.config.depth} to {self.config.depth - 1}")
        tokens = self.embed(images)
        for layer in self.blocks[:chosen]:
            tokens, _ = layer(tokens)
        tokens, cls_row = self.blocks[chosen](tokens, with_cls_row=True)
        cls_token, patch_tokens = self.split(self.norm(tokens))
        pooled = pool(cls_token, patch_tokens, self.config.pooling)
        logits = None
        if self.head is not None:
            for layer in self.blocks[chosen + 1:]:
                tokens, _ = layer(tokens)
            logits = self.head(pool(*self.split(self.norm(tokens)), self.config.pooling))  # (B, classes)
        return ViTOutput(cls_token, patch_tokens, cls_row[:, :, self.first_patch:], pooled, logits)

    @property
    def first_patch(self) -> int:
        """The index of the first patch token, behind the CLS and the register tokens."""
        return 1 + self.config.register_tokens

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the tokens (B, N, D) that enter the first block."""
        batch = images.shape[0]
        grid = self.config.grid_of(*images.shape[2:])
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), self.patch_embedding(images)], dim=1)
        tokens = tokens + self.positions_for(grid)  # (B, 1 + P, D)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(batch, -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)  # (B, N, D)
        return self.norm_before(tokens)

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """The position embedding (1, 1 + P, D) for ``grid`` (rows, columns), bicubic between the learned ones.

        The scale follows from the two sizes, with pixel-edge alignment and no antialias, as in Hugging Face's
        models; Meta's own DINOv2 code adds 0.1 to the size first and differs slightly off its native grid.
        """
        if grid == self.config.grid:
            return self.position_embedding
        learned = self.position_embedding[:, 1:].transpose(1, 2).unflatten(2, self.config.grid)  # (1, D, rows, columns)
        # In float64: half precision shifts the embedding, and float32 rounds differently from CPU to CPU, so that an
        # engine built ahead on one machine would not be found, by the digest of its weights, on the next.
        resized = functional.interpolate(learned.double(), size=grid, mode="bicubic", align_corners=False)
        patches = resized.to(learned.dtype).flatten(2).transpose(1, 2)  # (1, P, D)
        return torch.cat([self.position_embedding[:, :1], patches], dim=1)  # (1, 1 + P, D)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) to the CLS token (B, D) and the patch tokens (B, P, D)."""
        return tokens[:, 0], tokens[:, self.first_patch:]


def pool(cls_token: Tensor, patch_tokens: Tensor, pooling: str) -> Tensor:
    """One vector an image, (B, D); (B, 2 D) for ``cls_mean``."""
    if pooling == "cls":
        return cls_token
    if pooling == "max":
        return patch_tokens.amax(dim=1)
    mean = patch_tokens.mean(dim=1)
    return mean if pooling == "mean" else torch.cat([cls_token, mean], dim=1)


def make_head(config: ViTConfig) -> nn.Module | None:
    """The classification head, from ``pooled`` to logits; None for ``none``."""
    features = config.width * (2 if config.pooling == "cls_mean" else 1)
    if config.head == "none":
        return None
    if config.head == "linear":
        return nn.Linear(features, config.classes)
    return nn.Sequential(nn.Linear(features, features), nn.Tanh(), nn.Linear(features, config.classes))
