"""The layers of a Vision Transformer. Shapes: B images, N tokens, D channels, P patches.

Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929) for the patch embedding and the pre-norm block;
Touvron et al. 2021 (arXiv:2103.17239) for LayerScale; Shazeer 2020 (arXiv:2002.05202) for SwiGLU;
Zhang and Sennrich 2019 (arXiv:1910.07467) for RMSNorm.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.model.activations import ACTIVATIONS
from vit_perception.model.rope import Rotation, rotate
from vit_perception.model.vit_config import ViTConfig

# Attention in an exported graph: in the parameters' dtype, with the softmax in float32, or all in
# float32.
ATTENTION_FORMS = ("half", "float32_softmax", "float32")


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) to one token per patch (B, P, D), row-major over the grid.

    A convolution whose stride is its kernel. With ``unfolded`` set, patches go through a linear
    layer instead, which is equal: ONNX has no convolution in bfloat16 before opset 22.
    """

    def __init__(self, patch_size_px: int, width: int):
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)
        self.unfolded = False

    def forward(self, images: Tensor) -> Tensor:
        if self.unfolded:
            side = self.projection.kernel_size[0]
            rows = images.shape[2] // side
            columns = images.shape[3] // side
            pixels = images.reshape(-1, 3, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
            pixels = pixels.reshape(-1, rows * columns, 3 * side * side)  # (B, P, 3 side²)
            weight = self.projection.weight.flatten(1)  # (D, 3 side²)
            return functional.linear(pixels, weight, self.projection.bias)
        patches = self.projection(images)  # (B, D, rows, columns)
        return patches.flatten(2).transpose(1, 2)  # (B, P, D)


class RmsNorm(nn.Module):
    """x / sqrt(mean of x² + eps) · weight over the channels, in float32 until the weight."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, tokens: Tensor) -> Tensor:
        wide = tokens.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * normed.to(tokens.dtype)


def norm_of(config: ViTConfig) -> nn.Module:
    """Make the norm of the config's kind and width."""
    kind = RmsNorm if config.norm == "rms" else nn.LayerNorm
    return kind(config.width, eps=config.norm_eps)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) to (B, N, D).

    ``kind`` is ``fused`` (torch's scaled_dot_product_attention) or, as MatMul, Softmax, MatMul, one
    of ``ATTENTION_FORMS``; with float32 parameters all compute the same. :func:`explicit_attention`
    switches it.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool, qk_norm_eps: float | None = None):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.kind = "fused"
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key = nn.Linear(width, width, bias=qkv_bias)
        self.value = nn.Linear(width, width, bias=qkv_bias)
        self.output = nn.Linear(width, width)
        has_norm = qk_norm_eps is not None
        self.query_norm = RmsNorm(width, qk_norm_eps) if has_norm else nn.Identity()
        self.key_norm = RmsNorm(width, qk_norm_eps) if has_norm else nn.Identity()

    def forward(
        self,
        tokens: Tensor,
        with_cls_row: bool = False,
        rotation: Rotation | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; ``with_cls_row`` also gives the first query's weights (B, heads, N).

        ``mask`` (N, N) is added to the scores of queries and keys.
        """
        query, key = self._query_and_key(tokens, rotation)
        value = self._split_heads(self.value(tokens))
        if self.kind == "fused":
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            mixed = self._weights(query, key, mask) @ value
        mixed = mixed.to(tokens.dtype).transpose(1, 2).flatten(2)  # (B, N, D)
        cls_row = None
        if with_cls_row:
            # Computing one query's row again costs 1/N of the attention. Fused kernels never hold
            # the full weights.
            cls_row = self._weights(query[:, :, :1], key)[:, :, 0].to(tokens.dtype)  # (B, heads, N)
        return self.output(mixed), cls_row

    def attend(self, probes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Let ``probes`` (1, n, D) attend to ``tokens`` (B, N, D).

        Gives (B, n, D) and the weights (B, heads, n, N).
        """
        query = self._split_heads(self.query(probes))  # (1, heads, n, D / heads)
        key = self._split_heads(self.key(tokens))
        value = self._split_heads(self.value(tokens))
        weights = self._weights(query, key)
        mixed = (weights @ value).to(tokens.dtype).transpose(1, 2).flatten(2)  # (B, n, D)
        return self.output(mixed), weights.to(tokens.dtype)

    def weights(
        self, tokens: Tensor, rotation: Rotation | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Compute all attention (B, heads, N, N) of ``tokens`` (B, N, D), for viewers.

        It is all in memory at once.
        """
        return self._weights(*self._query_and_key(tokens, rotation), mask)

    def _query_and_key(self, tokens: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        query = self._split_heads(self.query_norm(self.query(tokens)))
        key = self._split_heads(self.key_norm(self.key(tokens)))
        if rotation is None:
            return query, key
        return rotate(query, rotation), rotate(key, rotation)

    def _split_heads(self, x: Tensor) -> Tensor:
        # Only this form casts: a cast in the graph can keep a compiler from fusing.
        widened = x.float() if self.kind == "float32" else x
        return widened.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)

    def _weights(self, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = (query * self.scale) @ key.transpose(2, 3)  # (B, heads, queries, N)
        if mask is not None:
            scores = scores + mask
        if self.kind == "float32_softmax":
            return torch.softmax(scores.float(), dim=-1).to(scores.dtype)
        return torch.softmax(scores, dim=-1)


@contextmanager
def explicit_attention(module: nn.Module, form: str = "half") -> Iterator[None]:
    """Make every Attention in ``module`` MatMul, Softmax, MatMul of ``form``, for ONNX export.

    ``form`` is one of ``ATTENTION_FORMS``; ``half`` casts nothing, whatever the parameters' dtype.
    The exporter writes scaled_dot_product_attention with an IsNaN and a Where after each Softmax,
    which can keep a graph compiler from fusing attention.
    """
    attentions = [part for part in module.modules() if isinstance(part, Attention)]
    kinds = [part.kind for part in attentions]
    try:
        for part in attentions:
            part.kind = form
        yield
    finally:
        for part, kind in zip(attentions, kinds, strict=True):
            part.kind = kind


class Mlp(nn.Module):
    """Two linear layers with an activation between them, token by token."""

    def __init__(self, width: int, hidden_width: int, activation: str):
        super().__init__()
        self.up = nn.Linear(width, hidden_width)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(hidden_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(self.activation(self.up(tokens)))


class SwiGlu(nn.Module):
    """down(silu(gate(x)) · up(x)), token by token."""

    def __init__(self, width: int, hidden_width: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden_width)
        self.up = nn.Linear(width, hidden_width)
        self.down = nn.Linear(hidden_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(tokens)) * self.up(tokens))


class LayerScale(nn.Module):
    """One learned factor per channel, on what a branch adds to the residual stream."""

    def __init__(self, width: int):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.factor


class Block(nn.Module):
    """A pre-norm block on (B, N, D): attention, then the MLP, each added to its input."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        width = config.width
        self.norm_attention = norm_of(config)
        qk_norm_eps = config.norm_eps if config.qk_norm else None
        self.attention = Attention(width, config.heads, config.qkv_bias, qk_norm_eps)
        self.scale_attention = LayerScale(width) if config.layer_scale else nn.Identity()
        self.norm_mlp = norm_of(config)
        if config.activation == "swiglu":
            self.mlp = SwiGlu(width, config.mlp_width)
        else:
            self.mlp = Mlp(width, config.mlp_width, config.activation)
        self.scale_mlp = LayerScale(width) if config.layer_scale else nn.Identity()

    def forward(
        self,
        tokens: Tensor,
        with_cls_row: bool = False,
        rotation: Rotation | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Give the new tokens, and ``with_cls_row`` the CLS query's attention (B, heads, N)."""
        normed = self.norm_attention(tokens)
        attended, cls_row = self.attention(normed, with_cls_row, rotation, mask)
        tokens = tokens + self.scale_attention(attended)
        return tokens + self.scale_mlp(self.mlp(self.norm_mlp(tokens))), cls_row
