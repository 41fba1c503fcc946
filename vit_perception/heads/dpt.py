"""The DPT head: from the tokens of some blocks of a ViT to one number, or one class, per pixel.

Source: Ranftl et al. 2021 (arXiv:2103.13413). Depth Anything (Yang et al. 2024, arXiv:2401.10891
and 2406.09414) has the same head with three differences, which are switches here: sizes follow the
grid's own instead of doubling, the last resize is to the network's size, and metric depth is a
sigmoid times the largest depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.dpt_parts import READOUTS, FixedBatchNorm, Fusion, Reassemble

ACTIVATIONS = ("relu", "sigmoid")
# A file may claim any number; published heads have up to 1024 channels.
_MOST_CHANNELS = 65_536


@dataclass(frozen=True)
class DptConfig:
    """One head's shape. It takes the tokens of ``len(channels)`` blocks, first block first.

    Raises:
        ValueError: A field is wrong.
    """

    # Channels of a token.
    width: int
    # Of each level: its channels, and its size in units of the grid.
    channels: tuple[int, ...]
    factors: tuple[float, ...]
    # Of the fused feature map.
    fusion_channels: int
    # Index of the first patch token: after CLS and register tokens.
    first_patch: int = 1
    # What happens to the CLS token: one of READOUTS.
    readout: str = "ignore"
    # Whether the residual units have biases and batch normalisation.
    residual_bias: bool = True
    residual_batch_norm: bool = False
    # Above 0, fusion follows the sizes of the levels and depth the network's input (Depth
    # Anything); with 0 each step doubles.
    patch_size_px: int = 0
    # Before the last layer of depth.
    hidden_channels: int = 32
    # One more convolution before the output of depth.
    relu_projection: bool = False
    # Depth is ``activation`` of the last layer, times ``scale``.
    activation: str = "relu"
    scale: float = 1.0
    # Above 0: a segmentation with that many classes.
    classes: int = 0

    def __post_init__(self):
        def whole(value: object, low: int) -> bool:
            return type(value) is int and low <= value <= _MOST_CHANNELS

        for name, holds, accepted in (
            ("width", whole(self.width, 1), "1"),
            (
                "channels",
                bool(self.channels) and all(whole(count, 1) for count in self.channels),
                "a number of channels for each block",
            ),
            (
                "factors",
                len(self.factors) == len(self.channels) and all(map(_is_factor, self.factors)),
                f"{len(self.channels)} factors",
            ),
            ("fusion_channels", whole(self.fusion_channels, 2), "2"),
            ("hidden_channels", whole(self.hidden_channels, 1), "1"),
            ("patch_size_px", whole(self.patch_size_px, 0), "0"),
            ("readout", self.readout in READOUTS, "one of " + ", ".join(READOUTS)),
            ("activation", self.activation in ACTIVATIONS, "one of " + ", ".join(ACTIVATIONS)),
            (
                "scale",
                isinstance(self.scale, (int, float)) and 0 < self.scale < 1e30,
                "a number above 0",
            ),
            ("classes", whole(self.classes, 0), "0"),
            (
                "first_patch",
                self.first_patch >= (self.readout != "ignore"),
                "at least 1 for a readout of the CLS token",
            ),
        ):
            if not holds:
                accepted = (
                    f"a whole number from {accepted} to {_MOST_CHANNELS}"
                    if accepted.isdigit()
                    else accepted
                )
                raise InvalidValue(
                    f"{name} of the DPT head is {getattr(self, name)!r:.80}; accepted: {accepted}"
                )


def _is_factor(value: object) -> bool:
    return type(value) in (int, float) and 1 / 64 <= value <= 64


class DptHead(nn.Module):
    """Depth (B, H, W) or class logits (B, K, H, W), of the size that the config says.

    ``forward`` takes one tensor of tokens (B, N, D) per block, and the grid (rows, columns) of
    their patches.
    """

    def __init__(self, config: DptConfig):
        super().__init__()
        self.config = config
        levels = len(config.channels)
        fused = config.fusion_channels
        self.reassemble = nn.ModuleList(
            Reassemble(
                width=config.width,
                channels=channels,
                factor=factor,
                readout=config.readout,
                first_patch=config.first_patch,
            )
            for channels, factor in zip(config.channels, config.factors)
        )
        self.level = nn.ModuleList(
            nn.Conv2d(channels, fused, 3, padding=1, bias=False) for channels in config.channels
        )
        # In the order of use: the coarsest level, that of the last block, comes first.
        self.fusion = nn.ModuleList(
            Fusion(fused, config.residual_bias, config.residual_batch_norm, first=step == 0)
            for step in range(levels)
        )
        self.output = SegmentationOutput(config) if config.classes else DepthOutput(config)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        if len(tokens) != len(self.level):
            raise ValueError(
                f"the tokens are those of {len(tokens)} blocks; accepted: {len(self.level)}"
            )
        pictures = [self.level[i](self.reassemble[i](part, grid)) for i, part in enumerate(tokens)]
        pictures.reverse()
        fused = None
        for step, (fusion, picture) in enumerate(zip(self.fusion, pictures)):
            is_last = step + 1 == len(pictures)
            size = (
                None
                if is_last or not self.config.patch_size_px
                else tuple(pictures[step + 1].shape[2:])
            )
            fused = fusion(picture, fused, size)
        return self.output(fused, grid)


class DepthOutput(nn.Module):
    """Turns (B, C, H, W) into depth (B, H', W').

    That is twice the size, or the network's size if the config has a patch size.
    """

    def __init__(self, config: DptConfig):
        super().__init__()
        self.config = config
        channels = config.fusion_channels
        self.projection = (
            nn.Conv2d(channels, channels, 3, padding=1) if config.relu_projection else None
        )
        self.narrow = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.mix = nn.Conv2d(channels // 2, config.hidden_channels, 3, padding=1)
        self.last = nn.Conv2d(config.hidden_channels, 1, 1)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.projection is not None:
            x = functional.relu(self.projection(x))
        x = self.narrow(x)
        patch_px = self.config.patch_size_px
        size = tuple(n * patch_px for n in grid) if patch_px else (2 * x.shape[2], 2 * x.shape[3])
        x = functional.interpolate(x, size, mode="bilinear", align_corners=True)
        x = self.last(functional.relu(self.mix(x)))[:, 0]
        return (
            torch.sigmoid(x) if self.config.activation == "sigmoid" else functional.relu(x)
        ) * self.config.scale


class SegmentationOutput(nn.Module):
    """Turns (B, C, H, W) into class logits (B, K, 2 H, 2 W)."""

    def __init__(self, config: DptConfig):
        super().__init__()
        channels = config.fusion_channels
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = FixedBatchNorm(channels)
        self.classify = nn.Conv2d(channels, config.classes, 1)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = self.classify(functional.relu(self.norm(self.mix(x))))
        return functional.interpolate(
            x, (2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=True
        )
