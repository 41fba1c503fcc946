"""The Vision Transformer.

Source: Dosovitskiy et al. 2021 (arXiv:2010.11929); distillation token from Touvron et al. 2021
(arXiv:2012.12877); register tokens from Darcet et al. 2024 (arXiv:2309.16588).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vit_perception.files.errors import InvalidValue
from vit_perception.model.attention_pooling import AttentionPooling
from vit_perception.model.layers import Block, PatchEmbedding
from vit_perception.model.positions import resize_grid
from vit_perception.model.rope import Rotation, rotation_of
from vit_perception.model.vit_config import ViTConfig

__all__ = ["ViTConfig", "ViTOutput", "VisionTransformer"]


class ViTOutput(NamedTuple):
    """``cls_token`` (B, D), ``patch_tokens`` (B, P, D), ``cls_attention`` (B, heads, P),
    ``pooled``, ``logits``.

    ``cls_attention`` is the CLS query's softmax over all tokens in the chosen block, patch columns
    only, so a row sums to less than 1. ``pooled`` is (B, D), or (B, 2 D) for ``cls_mean``.
    ``logits`` (B, classes) or None.

    A model without a CLS token gives ``pooled`` as its ``cls_token``, and as ``cls_attention`` how
    the pooling weighs the patches: the probe's attention for ``map``, 1 / P each for ``mean`` and
    ``max``.

    ``block_tokens`` (B, K, N, D) are all tokens of the K blocks that were to be kept, None for
    none.
    """

    cls_token: Tensor
    patch_tokens: Tensor
    cls_attention: Tensor
    pooled: Tensor
    logits: Tensor | None
    block_tokens: Tensor | None = None


class VisionTransformer(nn.Module):
    """``forward`` takes normalised images (B, 3, H, W); H and W are any multiples of the patch
    size.

    Tokens are in the order CLS, distillation, registers, patches (row-major). Weights start random:
    load a checkpoint. ``rotation``, where it is set, is that of the only grid that the model is run
    on.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        width, (rows, columns) = config.width, config.grid
        self.patch_embedding = PatchEmbedding(config.patch_size_px, width)
        positions = (
            config.prefix_tokens + rows * columns if config.position_embedding == "learned" else 0
        )
        for name, count in (
            ("cls_token", int(config.cls_token)),
            ("position_embedding", positions),
            ("distillation_token", int(config.distillation_token)),
            ("register_tokens", config.register_tokens),
        ):
            self.register_parameter(
                name, nn.Parameter(torch.zeros(1, count, width)) if count else None
            )
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.norm_before = (
            nn.LayerNorm(width, eps=config.norm_eps) if config.norm_before_blocks else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            Block(
                width=width,
                heads=config.heads,
                mlp_width=config.mlp_width,
                activation=config.activation,
                qkv_bias=config.qkv_bias,
                layer_scale=config.layer_scale,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps) if config.final_norm else nn.Identity()
        self.attention_pooling = (
            AttentionPooling(
                width=width,
                heads=config.heads,
                mlp_width=config.mlp_width,
                activation=config.activation,
                norm_eps=config.norm_eps,
            )
            if config.pooling == "map"
            else None
        )
        self.head = make_head(config)
        self.head_distillation = (
            nn.Linear(width, config.classes) if config.head == "distilled" else None
        )
        self.register_buffer("rotation_cos", None, persistent=False)
        self.register_buffer("rotation_sin", None, persistent=False)

    def forward(
        self, images: Tensor, block: int = -1, keep: Sequence[int] = (), norm_kept: bool = False
    ) -> ViTOutput:
        """Encode ``images``; tokens, attention and ``pooled`` are those of ``block``, behind the
        final norm.

        ``block`` counts from 0, or from the end when negative. The final norm is applied to an
        earlier block's tokens too, so that every block's come out at the same scale (with
        ``norm_pooled`` only ``pooled`` is normed). ``logits`` are always the last block's: a head
        knows no other; without a head, the blocks behind the chosen one are not run, but for those
        to ``keep``, as :meth:`intermediate` gives them.
        """
        chosen, wanted = self._index_of(block), [self._index_of(index) for index in keep]
        last = self.config.depth - 1 if self.head is not None else max([chosen, *wanted])
        tokens, rotation = (
            self.embed(images),
            self.rotation_for(self.config.grid_of(*images.shape[2:])),
        )
        kept = {}
        for index, layer in enumerate(self.blocks[: last + 1]):
            is_chosen = index == chosen
            tokens, row = layer(
                tokens, with_cls_row=is_chosen and self.config.cls_token, rotation=rotation
            )
            if is_chosen:
                chosen_tokens, cls_row = tokens, row
            if index in wanted:
                kept[index] = self.norm(tokens) if norm_kept else tokens
        normed = self.normed(chosen_tokens)
        pooled, attention = self.pool(normed)
        patch_tokens = normed[:, self.first_patch :]
        is_pooled = not self.config.cls_token or (
            self.config.pooling == "cls" and not self.config.norm_pooled
        )
        cls_token = pooled if is_pooled else normed[:, 0]
        if self.config.cls_token:
            attention = cls_row[:, :, self.first_patch :]
        logits = None
        if self.head is not None:
            logits = self.classify(self.normed(tokens) if chosen < last else normed)
        block_tokens = torch.stack([kept[index] for index in wanted], dim=1) if wanted else None
        return ViTOutput(cls_token, patch_tokens, attention, pooled, logits, block_tokens)

    def intermediate(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Tensor]:
        """The tokens (B, N, D) of ``blocks``, in the order given; before the final norm, or behind
        it with ``norm``.

        ``blocks`` count as in :meth:`forward`; those behind the last one named are not run.
        """
        wanted = [self._index_of(block) for block in blocks]
        tokens, rotation = (
            self.embed(images),
            self.rotation_for(self.config.grid_of(*images.shape[2:])),
        )
        kept = {}
        for index, layer in enumerate(self.blocks[: max(wanted, default=-1) + 1]):
            tokens, _ = layer(tokens, rotation=rotation)
            if index in wanted:
                kept[index] = self.norm(tokens) if norm else tokens
        return [kept[index] for index in wanted]

    def _index_of(self, block: int) -> int:
        if not -self.config.depth <= block < self.config.depth:
            raise InvalidValue(
                f"block is {block}; accepted: {-self.config.depth} to {self.config.depth - 1}"
            )
        return range(self.config.depth)[block]

    @property
    def first_patch(self) -> int:
        """The index of the first patch token, behind the CLS, distillation and register tokens."""
        return self.config.first_patch

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the tokens (B, N, D) that enter the first block."""
        batch, prefix = images.shape[0], self.config.prefix_tokens
        grid = self.config.grid_of(*images.shape[2:])
        before = [
            token.expand(batch, -1, -1)
            for token in (self.cls_token, self.distillation_token)
            if token is not None
        ]
        patches = self.patch_embedding(images)
        tokens = torch.cat([*before, patches], dim=1) if before else patches
        if self.position_embedding is not None:
            tokens = tokens + self.positions_for(grid)  # (B, prefix + P, D)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(batch, -1, -1)
            tokens = torch.cat(
                [tokens[:, :prefix], registers, tokens[:, prefix:]], dim=1
            )  # (B, N, D)
        return self.norm_before(tokens)

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """The position embedding (1, prefix + P, D) for ``grid`` (rows, columns), by the config's
        interpolation.
        """
        if grid == self.config.grid:
            return self.position_embedding
        prefix = self.config.prefix_tokens
        learned = self.position_embedding[:, prefix:].transpose(1, 2).unflatten(2, self.config.grid)
        resized = resize_grid(
            learned, grid, self.config.position_interpolation
        )  # (1, D, rows, columns)
        return torch.cat(
            [self.position_embedding[:, :prefix], resized.flatten(2).transpose(1, 2)], dim=1
        )

    def rotation_for(self, grid: tuple[int, int]) -> Rotation | None:
        """The rotary positions of all tokens for ``grid``, None for a model without; see
        :meth:`fix_rotation`.
        """
        if self.config.rope_theta is None:
            return None
        if self.rotation_cos is not None:
            return Rotation(self.rotation_cos, self.rotation_sin)
        weight = self.patch_embedding.projection.weight
        return Rotation(
            *(
                table.to(weight.device, weight.dtype)
                for table in rotation_of(
                    grid, self.first_patch, self.config.head_width, self.config.rope_theta
                )
            )
        )

    def fix_rotation(self, grid: tuple[int, int]) -> None:
        """Compute the rotary positions for ``grid`` now and keep them: the model then runs on no
        other.
        """
        self.rotation_cos, self.rotation_sin = self.rotation_for(grid) or (None, None)

    def normed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) behind the final norm, or as they are where the norm stands behind the
        pooling.
        """
        return tokens if self.config.norm_pooled else self.norm(tokens)

    def pool(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the head sees, of tokens (B, N, D) as :meth:`normed` gives them: (B, D), (B, 2 D)
        for ``cls_mean``.

        Beside it, how the pooling weighs the patches, (B, heads, P); None for ``cls`` and
        ``cls_mean``.
        """
        pooling, patches = self.config.pooling, tokens[:, self.first_patch :]
        if pooling == "map":
            return self.attention_pooling(patches)
        if pooling == "cls":
            pooled = tokens[:, 0]
        elif pooling == "max":
            pooled = patches.amax(dim=1)
        else:
            pooled = patches.mean(dim=1)
            pooled = torch.cat([tokens[:, 0], pooled], dim=1) if pooling == "cls_mean" else pooled
        uniform = None
        if pooling in ("mean", "max"):
            uniform = patches.new_full(
                (len(patches), self.config.heads, patches.shape[1]), 1 / patches.shape[1]
            )
        return self.norm(pooled) if self.config.norm_pooled else pooled, uniform

    def classify(self, tokens: Tensor) -> Tensor:
        """Logits (B, classes) of the last block's tokens (B, N, D), as :meth:`normed` gives
        them.
        """
        logits = self.head(self.pool(tokens)[0])
        return (
            (logits + self.head_distillation(tokens[:, 1])) / 2
            if self.head_distillation is not None
            else logits
        )


def make_head(config: ViTConfig) -> nn.Module | None:
    """The classification head, from ``pooled`` to logits; None for ``none``."""
    features = config.pooled_width
    if config.head == "none":
        return None
    if config.head in ("linear", "distilled"):
        return nn.Linear(features, config.classes)
    hidden = config.head_hidden_width or features
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, config.classes))
