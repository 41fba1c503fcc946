"""The parts of a Vision Transformer. Shapes: B images, N tokens, D channels, P patches.

Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929) for the patch embedding and the pre-norm block; Touvron et
al. 2021 (arXiv:2103.17239) for LayerScale; Shazeer 2020 (arXiv:2002.05202) for SwiGLU; Hendrycks and Gimpel
2016 (arXiv:1606.08415) for GELU and its two approximations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the approximation that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, the one that JAX models were trained with."""
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": functional.gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) to one token a patch (B, P, D), row-major over the grid.

    A convolution whose stride is its kernel: equal to unfolding the patches and a linear layer.
    """

    def __init__(self, patch_size_px: int, width: int):
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.projection(images)  # (B, D, rows, columns)
        return patches.flatten(2).transpose(1, 2)  # (B, P, D)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) to (B, N, D).

    ``kind`` is ``fused`` (torch's scaled_dot_product_attention) or ``explicit`` (MatMul, Softmax, MatMul); both
    compute the same. :func:`explicit_attention` switches it for export.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.kind = "fused"
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key = nn.Linear(width, width, bias=qkv_bias)
        self.value = nn.Linear(width, width, bias=qkv_bias)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, with_cls_row: bool = False) -> tuple[Tensor, Tensor | None]:
        """The attended tokens, and where asked for the CLS query's weights over all tokens (B, heads, N)."""
        query = self._split_heads(self.query(tokens))
        key = self._split_heads(self.key(tokens))
        value = self._split_heads(self.value(tokens))
        if self.kind == "fused":
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = self._weights(query, key) @ value
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, D)
        # One query's row again costs 1/N of the attention; taking it from the full weights would rule out
        # every fused kernel, which never holds them.
        cls_row = self._weights(query[:, :, :1], key)[:, :, 0] if with_cls_row else None  # (B, heads, N)
        return self.output(mixed), cls_row

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.softmax((query * self.scale) @ key.transpose(2, 3), dim=-1)  # (B, heads, queries, N)


@contextmanager
def explicit_attention(module: nn.Module) -> Iterator[None]:
    """While entered, every Attention inside ``module`` is plain MatMul, Softmax, MatMul; for ONNX export.

    The exporter writes scaled_dot_product_attention with an IsNaN and a Where behind each Softmax, which can
    keep a graph compiler from fusing attention.
    """
    attentions = [part for part in module.modules() if isinstance(part, Attention)]
    kinds = [part.kind for part in attentions]
    try:
        for part in attentions:
            part.kind = "explicit"
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
    """One learned factor a channel, on what a branch adds to the residual stream."""

    def __init__(self, width: int):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.factor


class Block(nn.Module):
    """A pre-norm transformer block, (B, N, D) to (B, N, D): attention, then the MLP, each added to its input."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: str, qkv_bias: bool,
                 layer_scale: bool, norm_eps: float):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, qkv_bias)
        self.scale_attention = LayerScale(width) if layer_scale else nn.Identity()
        self.norm_mlp = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = SwiGlu(width, mlp_width) if activation == "swiglu" else Mlp(width, mlp_width, activation)
        self.scale_mlp = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, tokens: Tensor, with_cls_row: bool = False) -> tuple[Tensor, Tensor | None]:
        """The new tokens, and where asked for the CLS query's attention over all tokens (B, heads, N)."""
        attended, cls_row = self.attention(self.norm_attention(tokens), with_cls_row)
        tokens = tokens + self.scale_attention(attended)
        return tokens + self.scale_mlp(self.mlp(self.norm_mlp(tokens))), cls_row
