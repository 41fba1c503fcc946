"""Connectors: what a policy puts between its vision tower and its language model.

All forms are one: the patches of a square are laid side by side (pixel shuffle), then linear
layers with GELU between them. One layer without a shuffle is PaliGemma's projector (π0), one with a
shuffle is SmolVLM's (SmolVLA), three layers are Prismatic's (OpenVLA). With a norm in front, of
each patch or of the square, two layers are the merger of Qwen2.5-VL and Qwen3-VL, and InternVL's
projector. In a square, patches are row by row in all of them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.files.errors import InvalidValue
from vit_perception.model.layers import RmsNorm

# In front of the first layer: of each patch, or of the patches of a square side by side.
NORMS = ("none", "layer", "rms")
NORM_PLACES = ("patch", "square")
# About ten times the largest published ones. A file may claim any number.
_MOST_WIDTH = 1_000_000
_MOST_LAYERS = 8
_MOST_SHUFFLE = 16
_MOST_BLOCKS = 1000


@dataclass(frozen=True)
class ConnectorSpec:
    """The shape of one connector.

    Raises:
        ValueError: A field is wrong; the error names it.
    """

    # Channels before the first layer, between the layers, and of the tokens that come out. The
    # first is ``shuffle`` squared times the tower's width (of two towers, of both together).
    widths: tuple[int, ...]
    # So many patches by so many become one token.
    shuffle: int = 1
    # Whether the linear layers have biases.
    bias: bool = True
    # Factor on the tokens that come out, as the policy's own code has it.
    scale: float = 1.0
    # In front of the first layer: its kind, what it is over, and what it adds to the variance.
    norm: str = "none"
    norm_place: str = "patch"
    norm_eps: float = 1e-6
    # Blocks of the tower whose outputs the language model takes besides, and which are not given
    # (Qwen3-VL's deep-stack).
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "left_out", tuple(self.left_out))
        for name, holds, accepted in (
            (
                "widths",
                2 <= len(self.widths) <= _MOST_LAYERS + 1
                and all(type(width) is int and 0 < width <= _MOST_WIDTH for width in self.widths),
                f"2 to {_MOST_LAYERS + 1} integers from 1 to {_MOST_WIDTH}",
            ),
            (
                "shuffle",
                type(self.shuffle) is int and 1 <= self.shuffle <= _MOST_SHUFFLE,
                f"an integer from 1 to {_MOST_SHUFFLE}",
            ),
            ("bias", isinstance(self.bias, bool), "true or false"),
            ("scale", _is_number(self.scale) and 0 < self.scale < 1e6, "a number above 0"),
            ("norm", self.norm in NORMS, ", ".join(NORMS)),
            ("norm_place", self.norm_place in NORM_PLACES, ", ".join(NORM_PLACES)),
            (
                "norm_eps",
                _is_number(self.norm_eps) and 0 < self.norm_eps < 1,
                "a number between 0 and 1",
            ),
            (
                "left_out",
                len(self.left_out) <= _MOST_BLOCKS
                and all(type(i) is int and 0 <= i < _MOST_BLOCKS for i in self.left_out),
                f"indices of blocks, 0 to {_MOST_BLOCKS - 1}",
            ),
        ):
            if not holds:
                raise InvalidValue(
                    f"{name} of the connector is {getattr(self, name)!r:.80}; accepted: {accepted}"
                )

    @property
    def width(self) -> int:
        """Channels of the tokens that come out."""
        return self.widths[-1]

    def grid_of(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Give the (rows, columns) of tokens for ``grid``, that of the patches.

        Raises:
            ValueError: The squares of the pixel shuffle do not cover it.
        """
        rows, columns = grid
        if rows % self.shuffle or columns % self.shuffle:
            raise InvalidValue(
                f"the grid is {rows} x {columns} patches; accepted: multiples of {self.shuffle}, "
                "since the policy's connector makes one token of a square of so many patches"
            )
        return rows // self.shuffle, columns // self.shuffle

    def check_tower(self, width: int) -> None:
        """Check that tokens of ``width`` channels fit the first layer.

        Raises:
            ValueError: They do not.
        """
        taken = self.shuffle**2 * width
        if self.widths[0] != taken:
            raise InvalidValue(
                f"the connector takes {self.widths[0]} channels and the tower gives {taken} "
                f"({self.shuffle} x {self.shuffle} patches of {width}); accepted: the connector of "
                "this tower"
            )

    def as_json(self) -> dict[str, Any]:
        """The fields by name, for JSON.

        Those of the norm and ``left_out`` are absent where there is none: digests of connectors
        without them stay what they are.
        """
        fields: dict[str, Any] = {
            "widths": list(self.widths),
            "shuffle": self.shuffle,
            "bias": self.bias,
            "scale": self.scale,
        }
        if self.norm != "none":
            names = ("norm", "norm_place", "norm_eps")
            fields |= {name: getattr(self, name) for name in names}
        return fields | ({"left_out": list(self.left_out)} if self.left_out else {})


class Connected(NamedTuple):
    """What a connector makes of the tower's outputs for B images, on T tokens of width E."""

    # (B, E): the mean of the tokens, in the place of a CLS token.
    cls_token: Tensor
    # (B, T, E), row-major over the connector's grid.
    patch_tokens: Tensor
    # (B, heads, T): the tower's attention, summed over each square of patches.
    cls_attention: Tensor


class Connector(nn.Module):
    """Patch tokens (B, P, D) to the tokens (B, T, E) that the policy's language model takes."""

    def __init__(self, spec: ConnectorSpec):
        super().__init__()
        self.spec = spec
        self.norm = _norm_of(spec)
        self.layers = nn.ModuleList(
            nn.Linear(taken, given, bias=spec.bias)
            for taken, given in zip(spec.widths, spec.widths[1:])
        )

    def forward(self, patch_tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Connect tokens on ``grid`` (rows, columns).

        Raises:
            ValueError: As :meth:`ConnectorSpec.grid_of`.
        """
        is_first = self.spec.norm_place == "patch"
        patches = self.norm(patch_tokens) if is_first else patch_tokens
        tokens = self._squares(patches, grid).flatten(3).flatten(1, 2)  # (B, T, shuffle² D)
        tokens = tokens if is_first else self.norm(tokens)
        for index, layer in enumerate(self.layers):
            tokens = layer(functional.gelu(tokens) if index else tokens)
        return tokens if self.spec.scale == 1 else tokens * self.spec.scale

    def connect(
        self, patch_tokens: Tensor, cls_attention: Tensor, grid: tuple[int, int]
    ) -> Connected:
        """Connect, and bring the tower's attention (B, heads, P) to the grid of the tokens."""
        tokens = self(patch_tokens, grid)
        return Connected(tokens.mean(dim=1), tokens, self.attention(cls_attention, grid))

    def attention(self, cls_attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """Sum the tower's attention (B, heads, P) over the squares of patches: (B, heads, T)."""
        attention = cls_attention.transpose(1, 2)  # (B, P, heads)
        if self.spec.shuffle > 1:
            attention = self._squares(attention, grid).sum(dim=3).flatten(1, 2)  # (B, T, heads)
        return attention.transpose(1, 2)

    def _squares(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Group (B, P, D) to (B, rows, columns, shuffle², D): row-major in and over squares."""
        rows, columns = self.spec.grid_of(grid)
        side = self.spec.shuffle
        picture = patches.reshape(-1, rows, side, columns, side, patches.shape[2])
        return picture.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)


def _norm_of(spec: ConnectorSpec) -> nn.Module:
    if spec.norm == "none":
        return nn.Identity()
    width = spec.widths[0] // (spec.shuffle**2 if spec.norm_place == "patch" else 1)
    return (RmsNorm if spec.norm == "rms" else nn.LayerNorm)(width, eps=spec.norm_eps)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def make_connector(spec: ConnectorSpec) -> Connector:
    """Make a connector on the meta device, to be given weights."""
    with torch.device("meta"):
        return Connector(spec)
