"""Fusion by learned queries that attend over all tokens of the sequence.

The weights belong to a policy's checkpoint: a safetensors file, all floating point, with Q queries,
width D, MLP width M and layers i = 0, 1, ...::

    queries                               (Q, D)
    layers.<i>.norm_queries.weight, .bias (D,)     LayerNorm, as all norms here with epsilon 1e-5
    layers.<i>.norm_tokens.weight, .bias  (D,)
    layers.<i>.attention.in_proj_weight   (3D, D)  rows: query, key, value
    layers.<i>.attention.in_proj_bias     (3D,)
    layers.<i>.attention.out_proj.weight  (D, D)
    layers.<i>.attention.out_proj.bias    (D,)
    layers.<i>.norm_mlp.weight, .bias     (D,)
    layers.<i>.mlp.fc1.weight, .bias      (M, D), (M,)
    layers.<i>.mlp.fc2.weight, .bias      (D, M), (D,)
    norm.weight, norm.bias                (D,)

and ``heads``, a divisor of D, in the header's metadata. These are the names of a module with
``torch.nn.MultiheadAttention``, so such a module is saved as it is. With x the queries::

    x = x + attention(query=norm_queries(x), key=value=norm_tokens(tokens))
    x = x + fc2(gelu(fc1(norm_mlp(x))))           exact (erf) GELU

and after the last layer ``norm(x)``, flattened. (Learned queries over a sequence: Jaegle et al.,
"Perceiver", 2021.)
"""

import re

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from vit_perception.files.weights import BadWeights, Shapes, WeightsFile, check_shapes, read_weights
from vit_perception.wire.records import TokenSequence


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm_queries = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = _Mlp(width, hidden)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.norm_tokens(tokens)  # (N, D)
        # The weights of the attention are not wanted: they would cost a second, slower way.
        attended, _ = self.attention(self.norm_queries(queries), tokens, tokens, need_weights=False)
        queries = queries + attended  # (Q, D)
        return queries + self.mlp(self.norm_mlp(queries))


class _Network(nn.Module):
    """Tokens (N, D) that are there, to the embedding (Q * D,)."""

    def __init__(self, width: int, heads: int, queries: int, hidden: list[int]):
        super().__init__()
        self.queries = nn.Parameter(torch.empty(queries, width))
        self.layers = nn.ModuleList(_Layer(width, heads, size) for size in hidden)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        queries = self.queries
        for layer in self.layers:
            queries = layer(queries, tokens)
        return self.norm(queries).reshape(-1)


class CrossAttention:
    """Fusion by cross-attention; formula and file are in the module's docstring.

    Raises:
        BadWeights: there is no file, or it is not as documented, or its tokens are not ``width``
            wide.
    """

    kind = "cross_attention"

    def __init__(self, weights_path: str, width: int):
        if not weights_path:
            raise BadWeights(
                "fusion.weights is ''; accepted: a safetensors file with trained cross_attention "
                "weights"
            )
        file = read_weights(weights_path)
        layer_ids = [
            int(i) for i in re.findall(r"^layers\.(\d+)\.", "\n".join(file.tensors), re.MULTILINE)
        ]
        layer_count = max(layer_ids, default=0) + 1
        # Otherwise a single layers.999999 would ask for the tensors of a million layers.
        if layer_count > len(file.tensors):
            raise BadWeights(
                f"{weights_path}: the highest layer is {layer_count - 1} in a file of "
                f"{len(file.tensors)} tensors; accepted: layers counted from 0 without gaps"
            )
        sizes = check_shapes(file, _shapes(layer_count, width))
        self.weights_sha256 = file.sha256
        self._width = width
        self._query_count = sizes["Q"]
        with torch.device("meta"):  # nothing is initialised: the file has every tensor
            self._network = _Network(
                width=width,
                heads=_heads(file, width),
                queries=self._query_count,
                hidden=[sizes[f"M{index}"] for index in range(layer_count)],
            )
        tensors = {name: torch.from_numpy(tensor) for name, tensor in file.tensors.items()}
        self._network.load_state_dict(tensors, assign=True)
        self._network.eval()

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """Return the embedding (Q * D,) float32; zeros if all tokens are missing.

        Missing tokens are not attended to.

        Raises:
            ValueError: the tokens have another width.
        """
        if sequence.tokens.shape[1] != self._width:
            raise ValueError(
                f"the tokens are {sequence.tokens.shape[1]} wide; accepted: {self._width}"
            )
        if not sequence.mask.any():
            return np.zeros(self._query_count * self._width, np.float32)
        with torch.inference_mode():
            embedding: np.ndarray = self._network(
                torch.from_numpy(sequence.tokens[sequence.mask])
            ).numpy()
        return embedding


def _shapes(layer_count: int, width: int) -> Shapes:
    shapes: Shapes = {"queries": ("Q", width)}
    for index in range(layer_count):
        prefix = f"layers.{index}."
        for norm in ("norm_queries", "norm_tokens", "norm_mlp"):
            shapes[f"{prefix}{norm}.weight"] = shapes[f"{prefix}{norm}.bias"] = (width,)
        shapes[prefix + "attention.in_proj_weight"] = (3 * width, width)
        shapes[prefix + "attention.in_proj_bias"] = (3 * width,)
        shapes[prefix + "attention.out_proj.weight"] = (width, width)
        shapes[prefix + "attention.out_proj.bias"] = (width,)
        # One letter a layer: the MLP widths may differ.
        shapes[prefix + "mlp.fc1.weight"] = (f"M{index}", width)
        shapes[prefix + "mlp.fc1.bias"] = (f"M{index}",)
        shapes[prefix + "mlp.fc2.weight"] = (width, f"M{index}")
        shapes[prefix + "mlp.fc2.bias"] = (width,)
    return {**shapes, "norm.weight": (width,), "norm.bias": (width,)}


def _heads(file: WeightsFile, width: int) -> int:
    text = file.metadata.get("heads", "")
    if not text.isdecimal() or int(text) < 1 or width % int(text):
        raise BadWeights(
            f"{file.path}: metadata 'heads' is {text!r}; accepted: a divisor of the width, {width}"
        )
    return int(text)
