"""Turn the numbers of a pose, a joint state or another source into one token.

A pose is n = 9 numbers ``x``: position in metres (3), then the rotation matrix's first two columns
(6), column after column. A state is its joints' positions, velocities, or both, as in
:class:`vit_perception.wire.records.Sample`. There are three kinds:

``fourier`` has no weights. With D the width, pair p = 0 .. ceil(D/2)-1 looks at the number j = p
mod n with octave k = floor(p / n) of K = ceil(ceil(D/2) / n)::

    wavelength_k = 8 * (0.02 / 8) ** (k / (K - 1))        (8 if K is 1)
    token[2p]    = sqrt(2) * cos(2 * pi * x[j] / wavelength_k)
    token[2p+1]  = sqrt(2) * sin(2 * pi * x[j] / wavelength_k)

computed in float64 and rounded to float32; an odd D leaves the last sine out. With an even D the
root mean square is exactly 1, and no token is all zero, which on the wire means a missing one.
Positions are unambiguous within 8 m, joints within 8 rad, and 2 cm (about 1 degree) turns the
fastest pair once. A width below 2 n holds only the first numbers of a pose; a state with too many
joints for the width is refused. (Sines of geometric wavelengths: Vaswani et al., "Attention Is All
You Need", 2017, section 3.5.)

``linear``: a safetensors file with ``weight`` (D, n) and ``bias`` (D,): ``weight @ x + bias``.

``mlp``: ``fc1.weight`` (H, n), ``fc1.bias`` (H,), ``fc2.weight`` (D, H), ``fc2.bias`` (D,):
``fc2(gelu(fc1(x)))`` with the exact (erf) GELU.

Both may hold ``mean`` (n,) and ``std`` (n,), together: then x is ``(x - mean) / std`` first.
"""

import math
from typing import Protocol

import numpy as np

from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import StateSettings
from vit_perception.files.errors import InvalidValue
from vit_perception.files.weights import BadWeights, Shapes, WeightsFile, check_shapes, read_weights
from vit_perception.streams.rotation import rotation_6d
from vit_perception.wire.records import Pose

NUMBERS = 9
LONGEST_WAVELENGTH = 8.0
SHORTEST_WAVELENGTH = 0.02

LEARNED = ("linear", "mlp")


def _weights(kind: str, count: int) -> Shapes:
    if kind == "linear":
        return {"weight": ("D", count), "bias": ("D",)}
    return {
        "fc1.weight": ("H", count),
        "fc1.bias": ("H",),
        "fc2.weight": ("D", "H"),
        "fc2.bias": ("D",),
    }


class Tokenizer(Protocol):
    """Makes a token of the numbers of one source."""

    kind: str  # fourier, linear or mlp
    width: int  # of the token
    weights_sha256: str  # empty if it has no weights

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Return the token (1, width) float32 of ``numbers`` (n,) float64."""
        ...


class RowTokenizer(Tokenizer, Protocol):
    """Makes tokens of many rows of numbers at once, such as one for each patch."""

    def encode_rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tokens (T, width) float32 of ``numbers`` (T, n) float64."""
        ...


def pose_numbers(pose: Pose) -> np.ndarray:
    """Return the 9 numbers of a pose, (9,) float64."""
    return np.concatenate([pose.position_m, rotation_6d(pose.quaternion_xyzw)])


class FourierTokenizer:
    """Sines and cosines; the formula is in the module's docstring."""

    kind = "fourier"
    weights_sha256 = ""

    def __init__(self, width: int, count: int = NUMBERS):
        self.width = width
        pair = np.arange(math.ceil(width / 2))
        octaves = math.ceil(len(pair) / count)
        wavelengths = LONGEST_WAVELENGTH * (SHORTEST_WAVELENGTH / LONGEST_WAVELENGTH) ** (
            (pair // count) / max(1, octaves - 1)
        )
        self._number = pair % count
        self._radians_per_unit = 2.0 * math.pi / wavelengths

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Return the token (1, width) float32 of ``numbers`` (n,) float64."""
        angles = numbers[self._number] * self._radians_per_unit
        pairs = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * math.sqrt(2.0)
        return pairs.reshape(1, -1)[:, : self.width].astype(np.float32)

    def encode_rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tokens (T, width) float32 of ``numbers`` (T, n) float64."""
        angles = numbers[:, self._number] * self._radians_per_unit
        pairs = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * math.sqrt(2.0)
        return pairs.reshape(len(numbers), -1)[:, : self.width].astype(np.float32)


class LearnedTokenizer:
    """``linear`` or ``mlp`` from a file; names and shapes are in the module's docstring.

    Raises:
        BadWeights: the file is not as documented, or its tokens are not ``width`` wide.
    """

    def __init__(self, kind: str, width: int, weights_path: str, count: int = NUMBERS):
        self.kind = kind
        self.width = width
        file = read_weights(weights_path)
        normalisation: Shapes = {"mean": (count,), "std": (count,)}
        given = [name for name in normalisation if name in file.tensors]
        if len(given) == 1:
            raise BadWeights(
                f"{weights_path}: there is {given[0]} alone; accepted: mean and std together, or "
                "neither"
            )
        found = check_shapes(file, _weights(kind, count), normalisation)["D"]
        if found != width:
            raise BadWeights(
                f"{weights_path}: tokens of width {found}; accepted: {width}, the encoder's"
            )
        self.weights_sha256 = file.sha256
        self._layers = _folded(file, kind)

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Return the token (1, width) float32 of ``numbers`` (n,) float64."""
        hidden = numbers.astype(np.float32)
        for index, (weight, bias) in enumerate(self._layers):
            hidden = _gelu(hidden) if index else hidden
            # einsum runs on this thread; torch and BLAS would wait for others, 8 ms on a busy CPU.
            hidden = np.einsum("ij,j->i", weight, hidden) + bias
        return hidden[None]

    def encode_rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tokens (T, width) float32 of ``numbers`` (T, n) float64."""
        hidden = numbers.astype(np.float32)
        for index, (weight, bias) in enumerate(self._layers):
            if index:
                hidden = _gelu(hidden.reshape(-1)).reshape(hidden.shape)
            hidden = hidden @ weight.T + bias
        return hidden


def _gelu(values: np.ndarray) -> np.ndarray:
    """Return x * P(X <= x) for a standard normal X, exactly (Hendrycks & Gimpel, 2016).

    numpy has no erf.
    """
    erf = np.fromiter(map(math.erf, (values * math.sqrt(0.5)).tolist()), np.float32, len(values))
    activated: np.ndarray = values * (0.5 + 0.5 * erf)
    return activated


def _folded(file: WeightsFile, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (weight, bias) of each layer, with mean and std folded into the first layer."""
    prefixes = ("",) if kind == "linear" else ("fc1.", "fc2.")
    layers = [
        (file.tensors[p + "weight"].astype(np.float64), file.tensors[p + "bias"].astype(np.float64))
        for p in prefixes
    ]
    if "std" in file.tensors:
        mean = file.tensors["mean"].astype(np.float64)
        std = file.tensors["std"].astype(np.float64)
        if (std <= 0).any():
            raise BadWeights(f"{file.path}: std holds {std.min():g}; accepted: values above zero")
        weight, bias = layers[0]
        layers[0] = weight / std, bias - (weight / std) @ mean
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def make_tokenizer(kind: str, width: int, weights_path: str = "") -> Tokenizer:
    """Return the tokenizer of poses of ``kind`` fourier, linear or mlp, for tokens of ``width``.

    linear and mlp need a file: untrained weights give noise.

    Raises:
        InvalidValue: an unknown kind, a width below 1, or linear or mlp without a file.
        BadWeights: the file does not fit. It is an InvalidValue.
    """
    return _make(
        kind=kind,
        width=width,
        weights_path=weights_path,
        count=NUMBERS,
        parameter="poses.tokenizer",
        weights_parameter="poses.tokenizer_weights",
    )


def make_state_tokenizer(kind: str, width: int, state: StateSettings) -> Tokenizer:
    """Return the tokenizer of the numbers of ``state``, as :func:`make_tokenizer`.

    Raises:
        BadSetting: ``fourier`` would have to leave numbers out.
    """
    count = len(state.joints) * len(state.fields)
    if kind == "fourier" and 2 * count > width:
        raise BadSetting(
            f"states.{state.name}.joints",
            list(state.joints),
            f"at most {width // 2 // len(state.fields)} joints with the fields "
            f"{', '.join(state.fields)}: a token of {width} channels has a cosine and a sine for "
            f"{width // 2} numbers",
        )
    return _make(
        kind=kind,
        width=width,
        weights_path=state.tokenizer_weights,
        count=count,
        parameter="states.tokenizer",
        weights_parameter=f"states.{state.name}.tokenizer_weights",
    )


def fourier_tokenizer(width: int, count: int, source: str) -> FourierTokenizer:
    """Return the tokenizer of ``count`` numbers that needs no weights.

    Raises:
        BadSetting: a token of ``width`` would have to leave numbers of ``source`` out.
    """
    if 2 * count > width:
        raise BadSetting(
            source, f"{count} numbers", f"at most {width // 2} with an encoder of width {width}"
        )
    return FourierTokenizer(width, count)


def make_row_tokenizer(
    *,
    kind: str,
    width: int,
    weights_path: str,
    count: int,
    parameter: str,
    weights_parameter: str,
) -> RowTokenizer:
    """Return the tokenizer of rows of ``count`` numbers, as :func:`make_tokenizer`.

    Raises:
        BadSetting: a ``fourier`` token of ``width`` would have to leave numbers out.
        InvalidValue, BadWeights: as :func:`make_tokenizer`.
    """
    if kind == "fourier":
        return fourier_tokenizer(width, count, parameter)
    return _make(
        kind=kind,
        width=width,
        weights_path=weights_path,
        count=count,
        parameter=parameter,
        weights_parameter=weights_parameter,
    )


def _make(
    *,
    kind: str,
    width: int,
    weights_path: str,
    count: int,
    parameter: str,
    weights_parameter: str,
) -> FourierTokenizer | LearnedTokenizer:
    if width < 1:
        raise InvalidValue(f"width is {width}; accepted: the encoder's token width, 1 or more")
    if kind == "fourier":
        return FourierTokenizer(width, count)
    if kind not in LEARNED:
        raise InvalidValue(f"{parameter} is {kind!r}; accepted: fourier, {', '.join(LEARNED)}")
    if not weights_path:
        raise InvalidValue(
            f"{weights_parameter} is ''; accepted: a safetensors file with trained {kind} weights"
        )
    return LearnedTokenizer(kind=kind, width=width, weights_path=weights_path, count=count)
