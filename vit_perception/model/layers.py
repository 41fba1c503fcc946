"""The parts of a Vision Transformer. Shapes: B images, N tokens, D channels, P patches.

Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929) for the patch embedding and the pre-norm block;
Touvron et al. 2021 (arXiv:2103.17239) for LayerScale; Shazeer 2020 (arXiv:2002.05202) for SwiGLU;
Hendrycks and Gimpel 2016 (arXiv:1606.08415) for GELU and its two approximations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.model.rope import Rotation, rotate


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the approximation that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, the one that JAX models were trained with."""
    return functional.gelu(x, approximate="tanh")


# Attention as an exported graph holds it: in the parameters' dtype, with the softmax in float32, or
# all in float32.
ATTENTION_FORMS = ("half", "float32_softmax", "float32")
ACTIVATIONS = {"gelu": functional.gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) to one token a patch (B, P, D), row-major over the grid.

    A convolution whose stride is its kernel. With ``unfolded`` set, the patches are unfolded into a
    linear layer instead, which is equal: ONNX has no convolution in bfloat16 before opset 22.
    """

    def __init__(self, patch_size_px: int, width: int):
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)
        self.unfolded = False

    def forward(self, images: Tensor) -> Tensor:
        if self.unfolded:
            side = self.projection.kernel_size[0]
            grid = images.shape[2] // side, images.shape[3] // side
            pixels = images.reshape(-1, 3, grid[0], side, grid[1], side).permute(0, 2, 4, 1, 3, 5)
            pixels = pixels.reshape(
                -1, grid[0] * grid[1], 3 * side * side
            )  # (B, P, 3 * side * side)
            return functional.linear(
                pixels, self.projection.weight.flatten(1), self.projection.bias
            )
        patches = self.projection(images)  # (B, D, rows, columns)
        return patches.flatten(2).transpose(1, 2)  # (B, P, D)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) to (B, N, D).

    ``kind`` is ``fused`` (torch's scaled_dot_product_attention) or, as MatMul, Softmax, MatMul, one
    of ``ATTENTION_FORMS``; with float32 parameters all compute the same. :func:`explicit_attention`
    switches it.
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

    def forward(
        self, tokens: Tensor, with_cls_row: bool = False, rotation: Rotation | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The attended tokens, and where asked for the first query's weights over all tokens (B,
        heads, N).
        """
        query, key, value = (
            self._split_heads(part(tokens)) for part in (self.query, self.key, self.value)
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if self.kind == "fused":
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = self._weights(query, key) @ value
        mixed = mixed.to(tokens.dtype).transpose(1, 2).flatten(2)  # (B, N, D)
        # One query's row again costs 1/N of the attention; taking it from the full weights would
        # rule out every fused kernel, which never holds them. (B, heads, N)
        cls_row = (
            self._weights(query[:, :, :1], key)[:, :, 0].to(tokens.dtype) if with_cls_row else None
        )
        return self.output(mixed), cls_row

    def ask(self, probes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``probes`` (1, n, D) attend to ``tokens`` (B, N, D): (B, n, D), and their weights (B,
        heads, n, N).
        """
        query = self._split_heads(self.query(probes))  # (1, heads, n, D / heads)
        key, value = self._split_heads(self.key(tokens)), self._split_heads(self.value(tokens))
        weights = self._weights(query, key)
        mixed = (weights @ value).to(tokens.dtype).transpose(1, 2).flatten(2)  # (B, n, D)
        return self.output(mixed), weights.to(tokens.dtype)

    def weights(self, tokens: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Every query's softmax over all keys, (B, heads, N, N), of ``tokens`` (B, N, D): to look
        at, all in memory.
        """
        query, key = self._split_heads(self.query(tokens)), self._split_heads(self.key(tokens))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return self._weights(query, key)

    def _split_heads(self, x: Tensor) -> Tensor:
        # A cast is in the graph only where the form asks for one: each can keep a compiler from
        # fusing.
        widened = x.float() if self.kind == "float32" else x
        return widened.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        scores = (query * self.scale) @ key.transpose(2, 3)  # (B, heads, queries, N)
        if self.kind == "float32_softmax":
            return torch.softmax(scores.float(), dim=-1).to(scores.dtype)
        return torch.softmax(scores, dim=-1)


@contextmanager
def explicit_attention(module: nn.Module, form: str = "half") -> Iterator[None]:
    """While entered, every Attention inside ``module`` is MatMul, Softmax, MatMul of ``form``; for
    ONNX export.

    ``form`` is one of ``ATTENTION_FORMS``; ``half`` casts nothing, whatever the dtype of the
    parameters. The exporter writes scaled_dot_product_attention with an IsNaN and a Where behind
    each Softmax, which can keep a graph compiler from fusing attention.
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
    """One learned factor a channel, on what a branch adds to the residual stream."""

    def __init__(self, width: int):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.factor


class Block(nn.Module):
    """A pre-norm transformer block, (B, N, D) to (B, N, D): attention, then the MLP, each added to
    its input.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        activation: str,
        qkv_bias: bool,
        layer_scale: bool,
        norm_eps: float,
    ):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, qkv_bias)
        self.scale_attention = LayerScale(width) if layer_scale else nn.Identity()
        self.norm_mlp = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = (
            SwiGlu(width, mlp_width)
            if activation == "swiglu"
            else Mlp(width, mlp_width, activation)
        )
        self.scale_mlp = LayerScale(width) if layer_scale else nn.Identity()

    def forward(
        self, tokens: Tensor, with_cls_row: bool = False, rotation: Rotation | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The new tokens, and where asked for the CLS query's attention over all tokens (B, heads,
        N).
        """
        attended, cls_row = self.attention(self.norm_attention(tokens), with_cls_row, rotation)
        tokens = tokens + self.scale_attention(attended)
        return tokens + self.scale_mlp(self.mlp(self.norm_mlp(tokens))), cls_row
