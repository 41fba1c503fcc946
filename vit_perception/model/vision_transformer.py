"""The Vision Transformer.

Source: Dosovitskiy et al. 2021 (arXiv:2010.11929); distillation token from Touvron et al. 2021
(arXiv:2012.12877); register tokens from Darcet et al. 2024 (arXiv:2309.16588).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vit_perception.files.errors import InvalidValue
from vit_perception.model.attention_pooling import AttentionPooling
from vit_perception.model.layers import Block, PatchEmbedding, norm_of
from vit_perception.model.positions import resize_grid
from vit_perception.model.rope import Rotation, places_of, rotation_of
from vit_perception.model.vit_config import ATTENTION_POOLINGS, ViTConfig
from vit_perception.model.windows import window_mask

__all__ = ["ViTConfig", "ViTOutput", "VisionTransformer"]


class ViTOutput(NamedTuple):
    """What the model gives for B images: P patches, N tokens, D channels."""

    # (B, D). A model without a CLS token gives ``pooled``.
    cls_token: Tensor
    # (B, P, D), row-major over the grid.
    patch_tokens: Tensor
    # (B, heads, P): the CLS query's softmax over all tokens in the chosen block, patch columns
    # only, so a row sums to less than 1. Without a CLS token: how the pooling weighs the patches,
    # the probe's attention for ``map``, 1 / P each for ``mean`` and ``max``.
    cls_attention: Tensor
    # (B, D), or (B, 2 D) for ``cls_mean``, (B, K D) for a ``cls_set`` of K.
    pooled: Tensor
    # (B, classes); None without a head.
    logits: Tensor | None
    # (B, K, N, D): all tokens of the K blocks to keep; None for none.
    block_tokens: Tensor | None = None


class BlocksRun(NamedTuple):
    """What :meth:`VisionTransformer.run_blocks` gives."""

    # By the index of the block, each (B, N, D), before the final norm.
    tokens: dict[int, Tensor]
    # (B, heads, N); None if it was not asked for.
    cls_row: Tensor | None


class VisionTransformer(nn.Module):
    """Normalised images (B, 3, H, W) to tokens; H and W are any multiples of the patch size.

    Tokens are in the order CLS, distillation, registers, patches (row-major). Weights start random:
    load a checkpoint.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = PatchEmbedding(config.patch_size_px, width)
        positions = config.prefix_tokens + config.grid[0] * config.grid[1]
        counts = {
            "cls_token": int(config.cls_token),
            "position_embedding": positions if config.position_embedding == "learned" else 0,
            "distillation_token": int(config.distillation_token),
            "register_tokens": config.register_tokens,
        }
        for name, count in counts.items():
            token = nn.Parameter(torch.zeros(1, count, width)) if count else None
            self.register_parameter(name, token)
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        # CLIP norms the tokens once before the blocks.
        self.norm_before = norm_of(config) if config.norm_before_blocks else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm_of(config) if config.final_norm else nn.Identity()
        # SigLIP and the Perception Encoder pool with a learned query.
        is_probed = config.pooling in ATTENTION_POOLINGS
        self.attention_pooling = AttentionPooling(config) if is_probed else None
        self.head = make_head(config)
        # DeiT's second classifier, on the distillation token.
        self.head_distillation = None
        if config.head == "distilled":
            self.head_distillation = nn.Linear(width, config.classes)
        # Set by :meth:`fix_grid`.
        for name in ("rotation_cos", "rotation_sin", "windows"):
            self.register_buffer(name, None, persistent=False)

    def forward(
        self, images: Tensor, block: int = -1, keep: Sequence[int] = (), norm_kept: bool = False
    ) -> ViTOutput:
        """Encode ``images``. Tokens, attention and ``pooled`` are those of ``block``.

        ``block`` counts from 0, or from the end when negative. The final norm is applied to every
        block's tokens, so that all have the same scale. ``logits`` are always the last block's.
        Without a head, blocks after the last one needed are not run. ``keep`` names further blocks,
        whose tokens are given as by :meth:`intermediate`.

        Raises:
            ValueError: There is no such block, or a side is no multiple of the patch size.
        """
        config = self.config
        chosen = self._index_of(block)
        kept = [self._index_of(index) for index in keep]
        last = config.depth - 1 if self.head is not None else chosen
        tokens = self.embed(images)
        grid = config.grid_of(*images.shape[2:])
        attention_of = chosen if config.cls_token else None
        run = self.run_blocks(tokens, grid, {chosen, last, *kept}, attention_of)
        normed = self.normed(run.tokens[chosen])
        pooled, attention = self.pool(normed)
        patch_tokens = normed[:, self.first_patch :]
        # Tokens are not normed if the norm comes after pooling; then, and without a CLS token, the
        # pooled vector takes its place or stands next to it.
        is_pooled = config.pooling == "cls" and not config.norm_pooled
        cls_token = pooled if is_pooled or not config.cls_token else normed[:, 0]
        if run.cls_row is not None:
            attention = run.cls_row[:, :, self.first_patch :]  # (B, heads, P)
        logits = None
        if self.head is not None:
            logits = self.classify(self.normed(run.tokens[last]) if chosen < last else normed)
        block_tokens = None
        if kept:
            parts = [run.tokens[index] for index in kept]
            block_tokens = torch.stack(self._normed_if(parts, norm_kept), dim=1)  # (B, K, N, D)
        return ViTOutput(
            cls_token=cls_token,
            patch_tokens=patch_tokens,
            cls_attention=attention,
            pooled=pooled,
            logits=logits,
            block_tokens=block_tokens,
        )

    def intermediate(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Tensor]:
        """Give the tokens (B, N, D) of ``blocks``, in the order given, with ``norm`` after the
        final norm.

        ``blocks`` count as in :meth:`forward`.
        """
        wanted = [self._index_of(block) for block in blocks]
        grid = self.config.grid_of(*images.shape[2:])
        run = self.run_blocks(self.embed(images), grid, wanted)
        return self._normed_if([run.tokens[index] for index in wanted], norm)

    def run_blocks(
        self,
        tokens: Tensor,
        grid: tuple[int, int],
        wanted: Collection[int],
        attention_of: int | None = None,
    ) -> BlocksRun:
        """Run the blocks up to the last one in ``wanted``, and give the tokens of those.

        ``grid`` is (rows, columns) of patches. ``attention_of`` is the block whose CLS row of
        attention is given, too.
        """
        rotation = self.rotation_for(grid)
        windows = self.windows_for(grid)
        kept: dict[int, Tensor] = {}
        cls_row = None
        for index, block in enumerate(self.blocks[: max(wanted, default=-1) + 1]):
            # Qwen2.5-VL: attention stays in windows but for a few blocks.
            mask = None if index in self.config.full_blocks else windows
            tokens, row = block(tokens, index == attention_of, rotation, mask)
            if index in wanted:
                kept[index] = tokens
            if row is not None:
                cls_row = row
        return BlocksRun(kept, cls_row)

    def _normed_if(self, parts: list[Tensor], norm: bool) -> list[Tensor]:
        return [self.norm(tokens) for tokens in parts] if norm else parts

    def _index_of(self, block: int) -> int:
        depth = self.config.depth
        if not -depth <= block < depth:
            raise InvalidValue(f"block is {block}; accepted: {-depth} to {depth - 1}")
        return range(depth)[block]

    @property
    def first_patch(self) -> int:
        """The index of the first patch token, after CLS, distillation and registers."""
        return self.config.first_patch

    def embed(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into the tokens (B, N, D) that enter the first block."""
        batch = images.shape[0]  # not len(), which would fix an exported open batch
        prefix = self.config.prefix_tokens
        first = [part for part in (self.cls_token, self.distillation_token) if part is not None]
        parts = [token.expand(batch, -1, -1) for token in first]
        tokens = self.patch_embedding(images)  # (B, P, D)
        if parts:
            tokens = torch.cat([*parts, tokens], dim=1)  # (B, prefix + P, D)
        # The blocks rotate queries and keys instead (DINOv3), or as well (Perception Encoder).
        if self.position_embedding is not None:
            tokens = tokens + self.positions_for(self.config.grid_of(*images.shape[2:]))
        # Registers have no positions.
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(batch, -1, -1)
            parts = [tokens[:, :prefix], registers, tokens[:, prefix:]]
            tokens = torch.cat(parts, dim=1)  # (B, N, D)
        return self.norm_before(tokens)

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """Give the position embedding (1, prefix + P, D), interpolated to ``grid`` (rows,
        columns).
        """
        config = self.config
        if grid == config.grid and config.position_interpolation != "bucketised":
            return self.position_embedding
        prefix = self.position_embedding[:, : config.prefix_tokens]
        learned = self.position_embedding[:, config.prefix_tokens :].transpose(1, 2)  # (1, D, P)
        picture = learned.unflatten(2, config.grid)  # (1, D, rows, columns)
        resized = resize_grid(picture, grid, config.position_interpolation)
        return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)

    def rotation_for(self, grid: tuple[int, int]) -> Rotation | None:
        """Give the rotary positions of all tokens for ``grid``; None for a model without."""
        config = self.config
        if config.rope_theta is None:
            return None
        if self.rotation_cos is not None:
            return Rotation(self.rotation_cos, self.rotation_sin)
        weight = self.patch_embedding.projection.weight
        first = int(config.cls_token)
        spread = config.rope_grid
        places = places_of(grid, config.rope_places, first_index=first, spread=spread)
        tables = rotation_of(places, self.first_patch, config.head_width, config.rope_theta)
        return Rotation(*(table.to(weight.device, weight.dtype) for table in tables))

    def windows_for(self, grid: tuple[int, int]) -> Tensor | None:
        """Give the mask (P, P) that keeps attention in windows; None for a model without."""
        side = self.config.window_patches
        if not side or self.windows is not None:
            return self.windows
        return window_mask(grid, side, self.patch_embedding.projection.weight)

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """Compute what depends on ``grid`` in the blocks, and keep it: only this grid runs then."""
        self.rotation_cos, self.rotation_sin = self.rotation_for(grid) or (None, None)
        self.windows = self.windows_for(grid)

    def normed(self, tokens: Tensor) -> Tensor:
        """Apply the final norm, unless it comes after pooling."""
        return tokens if self.config.norm_pooled else self.norm(tokens)

    def pool(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pool tokens (B, N, D) of :meth:`normed` to what the head sees: (B, ``pooled_width``).

        Also gives how the pooling weighs the patches, (B, heads, P); None for ``cls``,
        ``cls_mean`` and ``cls_set``.
        """
        pooling = self.config.pooling
        patches = tokens[:, self.first_patch :]
        if pooling == "map":
            return self.attention_pooling(patches)
        if pooling == "map_all":
            pooled, weights = self.attention_pooling(tokens)
            return pooled, weights[:, :, self.first_patch :]
        if pooling == "cls_set":
            return tokens[:, : self.config.cls_set].flatten(1), None
        if pooling == "cls":
            pooled = tokens[:, 0]
        elif pooling == "max":
            pooled = patches.amax(dim=1)
        else:
            pooled = patches.mean(dim=1)
        if pooling == "cls_mean":
            pooled = torch.cat([tokens[:, 0], pooled], dim=1)
        uniform = None
        if pooling in ("mean", "max"):
            count = patches.shape[1]
            uniform = patches.new_full((patches.shape[0], self.config.heads, count), 1 / count)
        return self.norm(pooled) if self.config.norm_pooled else pooled, uniform

    def classify(self, tokens: Tensor) -> Tensor:
        """Compute logits (B, classes) from the last block's tokens, as of :meth:`normed`."""
        logits = self.head(self.pool(tokens)[0])
        if self.head_distillation is None:
            return logits
        return (logits + self.head_distillation(tokens[:, 1])) / 2


def make_head(config: ViTConfig) -> nn.Module | None:
    """Make the classification head, from ``pooled`` to logits; None for ``none``."""
    features = config.pooled_width
    if config.head == "none":
        return None
    if config.head in ("linear", "distilled"):
        return nn.Linear(features, config.classes)
    hidden = config.head_hidden_width or features
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, config.classes))
