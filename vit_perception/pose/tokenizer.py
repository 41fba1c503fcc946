"""A pose -> one token of the encoder's width.

A pose is 9 numbers ``x``: position in metres (3), then the rotation matrix's first two columns (6), column
after column. Three kinds:

``fourier`` has no weights. With D the width, pair p = 0 .. ceil(D/2)-1 looks at the number j = p mod 9 with
octave k = floor(p / 9) of K = ceil(ceil(D/2) / 9)::

    wavelength_k = 8 * (0.02 / 8) ** (k / (K - 1))        (8 where K is 1)
    token[2p]    = sqrt(2) * cos(2 * pi * x[j] / wavelength_k)
    token[2p+1]  = sqrt(2) * sin(2 * pi * x[j] / wavelength_k)

computed in float64 and rounded to float32; an odd D leaves the last sine out. An even D has a root mean
square of exactly 1, and no token is all zero, which on the wire would mean a missing one. Positions are
unambiguous within 8 m, and 2 cm (about 1 degree) turns the fastest pair once. A width below 18 holds the first
numbers only. (Sines of geometric wavelengths: Vaswani et al., "Attention Is All You Need", 2017, section 3.5.)

``linear``: a safetensors file with ``weight`` (D, 9) and ``bias`` (D,): ``weight @ x + bias``.

``mlp``: ``fc1.weight`` (H, 9), ``fc1.bias`` (H,), ``fc2.weight`` (D, H), ``fc2.bias`` (D,):
``fc2(gelu(fc1(x)))`` with the exact (erf) GELU.

Both may hold ``mean`` (9,) and ``std`` (9,), together: then x is ``(x - mean) / std`` first.
"""

import math
from typing import Protocol

import numpy as np

from vit_perception.pose.rotation import rotation_6d
from vit_perception.pose.weights_file import BadWeights, Shapes, WeightsFile, check_shapes, read_weights
from vit_perception.types import Pose

NUMBERS = 9
LONGEST_WAVELENGTH, SHORTEST_WAVELENGTH = 8.0, 0.02

_WEIGHTS: dict[str, Shapes] = {
    "linear": {"weight": ("D", NUMBERS), "bias": ("D",)},
    "mlp": {"fc1.weight": ("H", NUMBERS), "fc1.bias": ("H",), "fc2.weight": ("D", "H"), "fc2.bias": ("D",)},
}
_NORMALISATION: Shapes = {"mean": (NUMBERS,), "std": (NUMBERS,)}


class PoseTokenizer(Protocol):
    """``weights_sha256`` is '' where there are no weights."""

    kind: str
    width: int
    weights_sha256: str

    def tokens(self, pose: Pose) -> np.ndarray:
        """(1, width) float32."""
        ...


def pose_numbers(pose: Pose) -> np.ndarray:
    """The 9 numbers of a pose, (9,) float64."""
    return np.concatenate([pose.position_m, rotation_6d(pose.quaternion_xyzw)])


class FourierTokenizer:
    """Sines and cosines; the formula is in the module's docstring."""

    kind = "fourier"
    weights_sha256 = ""

    def __init__(self, width: int):
        self.width = width
        pair = np.arange(math.ceil(width / 2))
        octaves = math.ceil(len(pair) / NUMBERS)
        wavelengths = LONGEST_WAVELENGTH * (SHORTEST_WAVELENGTH / LONGEST_WAVELENGTH) ** (
            (pair // NUMBERS) / max(1, octaves - 1))
        self._number = pair % NUMBERS
        self._radians_per_unit = 2.0 * math.pi / wavelengths

    def tokens(self, pose: Pose) -> np.ndarray:
        """(1, width) float32."""
        angles = pose_numbers(pose)[self._number] * self._radians_per_unit
        pairs = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * math.sqrt(2.0)
        return pairs.reshape(1, -1)[:, :self.width].astype(np.float32)


class LearnedTokenizer:
    """``linear`` or ``mlp`` from a file; names and shapes are in the module's docstring."""

    def __init__(self, kind: str, width: int, weights_path: str):
        """Raises BadWeights for a file that is not exactly as documented, or of another width."""
        self.kind, self.width = kind, width
        file = read_weights(weights_path)
        given = [name for name in _NORMALISATION if name in file.tensors]
        if len(given) == 1:
            raise BadWeights(f"{weights_path}: there is {given[0]} alone; accepted: mean and std together, or neither")
        found = check_shapes(file, _WEIGHTS[kind], _NORMALISATION)["D"]
        if found != width:
            raise BadWeights(f"{weights_path}: tokens of width {found}; accepted: {width}, the encoder's")
        self.weights_sha256 = file.sha256
        self._layers = _folded(file, kind)

    def tokens(self, pose: Pose) -> np.ndarray:
        """(1, width) float32."""
        hidden = pose_numbers(pose).astype(np.float32)
        for index, (weight, bias) in enumerate(self._layers):
            hidden = _gelu(hidden) if index else hidden
            # einsum runs on this thread; torch and BLAS would wait for others, 8 ms on a busy CPU.
            hidden = np.einsum("ij,j->i", weight, hidden) + bias
        return hidden[None]


def _gelu(values: np.ndarray) -> np.ndarray:
    """x * P(X <= x) for a standard normal X, exactly (Hendrycks & Gimpel, 2016). numpy has no erf."""
    erf = np.fromiter(map(math.erf, (values * math.sqrt(0.5)).tolist()), np.float32, len(values))
    return values * (0.5 + 0.5 * erf)


def _folded(file: WeightsFile, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of each layer, with mean and std folded into the first: the call has less to do."""
    prefixes = ("",) if kind == "linear" else ("fc1.", "fc2.")
    layers = [(file.tensors[p + "weight"].astype(np.float64), file.tensors[p + "bias"].astype(np.float64))
              for p in prefixes]
    if "std" in file.tensors:
        mean, std = file.tensors["mean"].astype(np.float64), file.tensors["std"].astype(np.float64)
        if (std <= 0).any():
            raise BadWeights(f"{file.path}: std holds {std.min():g}; accepted: values above zero")
        weight, bias = layers[0]
        layers[0] = weight / std, bias - (weight / std) @ mean
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def make_tokenizer(kind: str, width: int, weights_path: str = "") -> PoseTokenizer:
    """The tokenizer of ``kind`` fourier, linear or mlp, for tokens of ``width``.

    Raises ValueError for an unknown kind, a width below 1, or linear and mlp without a file: untrained weights
    give noise, so there is no default. Raises BadWeights (a ValueError) for a file that does not fit.
    """
    if width < 1:
        raise ValueError(f"width is {width}; accepted: the encoder's token width, 1 or more")
    if kind == "fourier":
        return FourierTokenizer(width)
    if kind not in _WEIGHTS:
        raise ValueError(f"poses.tokenizer is {kind!r}; accepted: fourier, {', '.join(_WEIGHTS)}")
    if not weights_path:
        raise ValueError(f"poses.tokenizer_weights is ''; accepted: a safetensors file with trained {kind} weights")
    return LearnedTokenizer(kind, width, weights_path)
