"""Learned queries that attend over all tokens of the sequence. Weights belong to a policy's
checkpoint.

A safetensors file, all floating point, with Q queries, width D, MLP width M and layers i = 0, 1,
..::

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

and ``heads``, a divisor of D, in the header's metadata. The attention has the names of
``torch.nn.MultiheadAttention``, so that a module trained with it saves as it is. With x the
queries::

    x = x + attention(query=norm_queries(x), key=value=norm_tokens(tokens))
    x = x + fc2(gelu(fc1(norm_mlp(x))))           exact (erf) GELU

and after the last layer ``norm(x)``, flattened. (Learned queries over a sequence: Jaegle et al.,
"Perceiver", 2021.)
"""

import re

import numpy as np
import torch
import torch.nn.functional as functional

from vit_perception.files.weights import BadWeights, Shapes, WeightsFile, check_shapes, read_weights
from vit_perception.wire.records import TokenSequence

_NORM_EPSILON = 1e-5


class CrossAttention:
    """Fusion by cross-attention; formula and file are in the module's docstring."""

    kind = "cross_attention"

    def __init__(self, weights_path: str, width: int):
        """Raises BadWeights (a ValueError) without a file, or for one that is not as documented or
        not of ``width``.
        """
        if not weights_path:
            raise BadWeights(
                "fusion.weights is ''; accepted: a safetensors file with trained cross_attention "
                "weights"
            )
        file = read_weights(weights_path)
        layer_ids = [
            int(i) for i in re.findall(r"^layers\.(\d+)\.", "\n".join(file.tensors), re.MULTILINE)
        ]
        self._layer_count = max(layer_ids, default=0) + 1
        # The count is bounded by what the file holds: a stray layers.999999 must not become a
        # million wants.
        if self._layer_count > len(file.tensors):
            raise BadWeights(
                f"{weights_path}: the highest layer is {self._layer_count - 1} in a file of "
                f"{len(file.tensors)} tensors; accepted: layers counted from 0 without gaps"
            )
        sizes = check_shapes(file, _shapes(self._layer_count, width))
        self.weights_sha256 = file.sha256
        self._width = width
        self._query_count = sizes["Q"]
        self._heads = _heads(file, width)
        self._weights = {name: torch.from_numpy(tensor) for name, tensor in file.tensors.items()}

    def embedding(self, sequence: TokenSequence) -> np.ndarray:
        """(Q * D,) float32. Missing tokens are not attended to; where all are missing the result is
        zeros.

        Raises ValueError for tokens of another width.
        """
        if sequence.tokens.shape[1] != self._width:
            raise ValueError(
                f"the tokens are {sequence.tokens.shape[1]} wide; accepted: {self._width}"
            )
        if not sequence.mask.any():
            return np.zeros(self._query_count * self._width, np.float32)
        with torch.inference_mode():
            tokens = torch.from_numpy(sequence.tokens[sequence.mask])  # (N, D)
            queries = self._weights["queries"]  # (Q, D)
            for index in range(self._layer_count):
                queries = self._layer(f"layers.{index}.", queries, tokens)
            return self._norm("norm", queries).numpy().reshape(-1)

    def _layer(self, prefix: str, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        weights = self._weights
        in_weight, in_bias = (
            weights[prefix + "attention.in_proj_weight"],
            weights[prefix + "attention.in_proj_bias"],
        )
        query = functional.linear(
            self._norm(prefix + "norm_queries", queries),
            in_weight[: self._width],
            in_bias[: self._width],
        )
        key, value = functional.linear(
            self._norm(prefix + "norm_tokens", tokens),
            in_weight[self._width :],
            in_bias[self._width :],
        ).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            self._split_heads(query), self._split_heads(key), self._split_heads(value)
        )
        # (heads, Q, D / heads) -> (Q, D)
        attended = attended.transpose(0, 1).reshape(queries.shape)
        queries = queries + self._linear(prefix + "attention.out_proj", attended)
        hidden = functional.gelu(
            self._linear(prefix + "mlp.fc1", self._norm(prefix + "norm_mlp", queries))
        )
        return queries + self._linear(prefix + "mlp.fc2", hidden)

    def _split_heads(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(len(rows), self._heads, -1).transpose(0, 1)  # (heads, rows, D / heads)

    def _linear(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        return functional.linear(
            rows, self._weights[name + ".weight"], self._weights[name + ".bias"]
        )

    def _norm(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(
            rows,
            (self._width,),
            self._weights[name + ".weight"],
            self._weights[name + ".bias"],
            _NORM_EPSILON,
        )


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
