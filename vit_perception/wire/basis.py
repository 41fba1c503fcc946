"""Patch tokens as coefficients of a basis: 64 numbers in eight bits in the place of D.

A basis is the mean of patch tokens and K orthonormal directions, learnt from recorded features by
``vit-perception basis``. With one, ``~/tokens`` is one row of bytes: each group of the layout after
another, patch groups as rows of ``quantised.py`` (K bytes and a scale a token), all others as D
float32. It needs numpy alone.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.layout import Layout, LayoutGroup
from vit_perception.wire.quantised import SCALE, quantise, restore
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import decode_tensor

# The encoding of an Image that is one row of bytes.
PACKED = "8UC1"
# The kind of the groups that are sent as coefficients.
REDUCED_KIND = "patch"
EXACT = np.dtype("<f4")
# Multiplications of a matrix product that OpenBLAS, which numpy's wheels have, makes in one thread.
_ONE_THREAD = 4 * 65_536
_FEW_ROWS = 4
# How far the product of two directions may be from 0, and of one with itself from 1.
_ORTHONORMAL = 1e-3


@dataclass(frozen=True, eq=False)
class Basis:
    """Mean and directions of one encoder's patch tokens.

    Raises:
        InvalidValue: The arrays do not fit each other, hold NaN, or the directions are not
            orthonormal.
    """

    # (D,) float32: the mean patch token.
    mean: np.ndarray
    # (K, D) float32: orthonormal rows, the one of the largest variance first.
    directions: np.ndarray
    # The layout's ``encoder_sha256`` of the encoder whose tokens these are.
    encoder_sha256: str

    def __post_init__(self) -> None:
        count, width = self.directions.shape if self.directions.ndim == 2 else (0, 0)
        if self.mean.shape != (width,) or not 1 <= count <= width:
            raise InvalidValue(
                f"a basis has a mean of shape {self.mean.shape} and directions of shape "
                f"{self.directions.shape}; accepted: (D,) and (K, D), K from 1 to D"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.directions).all()):
            raise InvalidValue("a basis holds NaN or infinity; accepted: finite numbers")
        products = self.directions @ self.directions.T
        if (error := np.abs(products - np.eye(count)).max()) > _ORTHONORMAL:
            raise InvalidValue(
                f"the directions of a basis are orthonormal to {error:.2g}; accepted: "
                f"{_ORTHONORMAL:g}"
            )

    @cached_property
    def sha256(self) -> str:
        """The digest of its numbers and of the encoder: the layout's ``basis``."""
        digest = hashlib.sha256(self.encoder_sha256.encode())
        for numbers in (self.mean, self.directions):
            digest.update(f"{numbers.shape}".encode())
            digest.update(np.ascontiguousarray(numbers, EXACT).tobytes())
        return digest.hexdigest()

    @property
    def dims(self) -> int:
        """K, the number of directions."""
        return len(self.directions)

    @property
    def width(self) -> int:
        """D, the width of the tokens."""
        return len(self.mean)

    def reduce(self, tokens: np.ndarray) -> np.ndarray:
        """Return the coefficients (T, K) float32 of ``tokens`` (T, D); those of missing are 0."""
        coefficients = _product(tokens - self.mean, self.directions.T)
        coefficients[~np.any(tokens, axis=1)] = 0
        return coefficients

    def expand(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the tokens (..., T, D) float32 of ``coefficients``; rows of zeros are missing."""
        tokens = _product(coefficients, self.directions)
        tokens += self.mean
        tokens[~np.any(coefficients, axis=-1)] = 0
        return tokens

    def to_rows(self) -> np.ndarray:
        """Return what ``~/basis`` carries, (K + 1, D): the mean, then the directions."""
        return np.vstack([self.mean, self.directions])

    @classmethod
    def from_rows(cls, rows: np.ndarray, encoder_sha256: str) -> "Basis":
        """Return the basis of ``rows`` (K + 1, D), as :meth:`to_rows` gives them.

        Raises:
            InvalidValue: They are no basis.
        """
        if len(rows) < 2:
            raise InvalidValue(
                f"a basis has {len(rows)} rows; accepted: the mean and at least one direction"
            )
        rows = rows.astype(np.float32, copy=False)
        return cls(rows[0], rows[1:], encoder_sha256)

    @classmethod
    def from_message(cls, message: Any, layout: Layout) -> "Basis":
        """Return the basis of a ``~/basis`` message, which is that of ``layout``.

        Raises:
            BadInput: ``basis``: The layout has no basis, or another one.
            InvalidValue: It is no basis.
        """
        basis = cls.from_rows(decode_tensor(message), layout.encoder_sha256)
        basis.check_layout(layout)
        return basis

    def check_layout(self, layout: Layout) -> None:
        """Check that it is the basis that ``layout`` names.

        Raises:
            BadInput: ``basis``: It is not.
        """
        named = layout.basis.sha256 if layout.basis else ""
        if named != self.sha256:
            raise BadInput(
                "basis",
                f"the basis has the digest {self.sha256[:16]}; accepted: that of the layout, "
                f"{named[:16] or 'which has no basis'}",
            )


class PackedGroups:
    """The groups of one sequence ``tokens`` (N, D) as rows of bytes.

    Each is made when it is first asked for, and kept: a group may be sent alone and in the
    sequence, and its coefficients are what takes the time.
    """

    def __init__(self, tokens: np.ndarray, layout: Layout, basis: Basis):
        self._tokens = tokens
        self._layout = layout
        self._basis = basis
        self._rows: dict[str, np.ndarray] = {}

    def rows(self, group: LayoutGroup) -> np.ndarray:
        """Return the rows of ``group`` as :func:`pack_group` makes them."""
        if group.name not in self._rows:
            tokens = self._tokens[group.start : group.stop]
            self._rows[group.name] = pack_group(tokens, group.kind, self._basis)
        return self._rows[group.name]

    def sequence(self) -> np.ndarray:
        """Return all groups one after another (B,), as ``~/tokens`` carries them."""
        return np.concatenate([self.rows(group).reshape(-1) for group in self._layout.groups])


def pack_sequence(tokens: np.ndarray, layout: Layout, basis: Basis) -> np.ndarray:
    """Return the sequence ``tokens`` (N, D) as (B,) uint8, as ``~/tokens`` carries it."""
    return PackedGroups(tokens, layout, basis).sequence()


def pack_group(tokens: np.ndarray, kind: str, basis: Basis) -> np.ndarray:
    """Return ``tokens`` (T, D) of one group as rows of bytes: (T, K + 4), or (T, 4 · D)."""
    if kind == REDUCED_KIND:
        return quantise(basis.reduce(tokens))
    return np.ascontiguousarray(tokens, EXACT).view(np.uint8)


def unpack_groups(data: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """Return the groups of a packed sequence (B,) uint8 by name.

    Patch groups are coefficients (T, K) float32, all others tokens (T, D) float32.

    Raises:
        BadInput: ``basis``, ``size`` or ``scale``: The layout has no basis, the bytes are not as
            many as it says, or a scale is none.
    """
    if layout.basis is None:
        raise BadInput("basis", "the layout has no basis; accepted: one with a basis")
    sizes = [_group_bytes(group, layout) for group in layout.groups]
    if data.shape != (sum(sizes),):
        raise BadInput(
            "size",
            f"the tokens have {data.size} bytes; accepted: the {sum(sizes)} of the layout's groups",
        )
    parts = np.split(np.ascontiguousarray(data), np.cumsum(sizes)[:-1])
    return {
        group.name: restore(part.reshape(group.stop - group.start, -1))
        if group.kind == REDUCED_KIND
        else part.view(EXACT).reshape(-1, layout.width)
        for group, part in zip(layout.groups, parts)
    }


def expand_groups(groups: dict[str, np.ndarray], layout: Layout, basis: Basis) -> np.ndarray:
    """Return the tokens (N, D) float32 of what :func:`unpack_groups` returned.

    Raises:
        BadInput: ``basis``: It is not the basis of ``layout``.
    """
    basis.check_layout(layout)
    return np.concatenate(
        [
            basis.expand(groups[g.name]) if g.kind == REDUCED_KIND else groups[g.name]
            for g in layout.groups
        ]
    )


def exact_rows(groups: dict[str, np.ndarray], layout: Layout) -> np.ndarray:
    """Return the tokens (N', D) of the groups that are no coefficients, in the layout's order."""
    rows = [groups[g.name] for g in layout.groups if g.kind != REDUCED_KIND]
    return np.concatenate(rows) if rows else np.zeros((0, layout.width), EXACT)


def coefficients_of(groups: dict[str, np.ndarray], layout: Layout) -> dict[str, np.ndarray]:
    """Return the groups that are coefficients (T, K), by name."""
    return {g.name: groups[g.name] for g in layout.groups if g.kind == REDUCED_KIND}


def mask_of_groups(groups: dict[str, np.ndarray], layout: Layout) -> np.ndarray:
    """Return the mask (N,) bool: a token is missing if its row is zeros."""
    return np.concatenate([groups[g.name].any(axis=1) for g in layout.groups])


def decode_groups(message: Any, layout: Layout) -> dict[str, np.ndarray]:
    """Return the groups of a ``~/tokens`` message by name.

    With a basis, patch groups are coefficients (T, K); otherwise every group is (T, D).

    Raises:
        BadInput: The message is not one of ``layout``.
    """
    if layout.basis is None:
        return layout.split(decode_tensor(message))
    if message.encoding != PACKED or message.height != 1 or message.step != message.width:
        raise BadInput(
            "encoding",
            f"the tokens are {message.height} x {message.width} of {message.encoding!r}; accepted: "
            f"one row of {PACKED}, as the layout has a basis",
        )
    return unpack_groups(np.frombuffer(message.data, np.uint8), layout)


def decode_tokens(message: Any, layout: Layout, basis: Basis | None = None) -> np.ndarray:
    """Return the tokens (N, D) of a ``~/tokens`` message, restored if the layout has a basis.

    Raises:
        BadInput: The message is not one of ``layout``, or ``basis`` is not its basis.
    """
    if layout.basis is None:
        return decode_tensor(message)
    if basis is None:
        raise BadInput(
            "basis",
            "the tokens are coefficients, and no basis has come; accepted: a subscription to "
            "~/basis (reliable, transient local), or decode_groups, which needs none",
        )
    return expand_groups(decode_groups(message, layout), layout, basis)


def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows`` (..., N) times ``matrix`` (N, M), a few rows at a time.

    OpenBLAS gives a product of more than _ONE_THREAD multiplications to threads, and each waits
    for the others. While other programs took all cores, the tokens of one camera took 200 ms in
    the place of 0.1 ms. Few rows at a time are as fast on a quiet computer.
    """
    inner, outer = matrix.shape
    flat = rows.reshape(-1, inner)
    product = np.empty((len(flat), outer), np.result_type(rows, matrix))
    # Of one row it makes threads sooner, so there are several, of fewer columns.
    columns = min(outer, max(1, _ONE_THREAD // (_FEW_ROWS * inner)))
    block = min(len(flat), max(1, _ONE_THREAD // (inner * columns))) or 1
    whole = len(flat) - len(flat) % block
    for first in range(0, outer, columns):
        part = slice(first, first + columns)
        blocks = flat[:whole].reshape(-1, block, inner) @ matrix[:, part]
        product[:whole, part] = blocks.reshape(whole, blocks.shape[-1])
        if whole < len(flat):  # with some that are done, as these may be one row
            product[-block:, part] = flat[-block:] @ matrix[:, part]
    return product.reshape(*rows.shape[:-1], outer)


def _group_bytes(group: LayoutGroup, layout: Layout) -> int:
    dims = layout.basis.dims if layout.basis else 0
    row = dims + SCALE.itemsize if group.kind == REDUCED_KIND else layout.width * EXACT.itemsize
    return (group.stop - group.start) * row
