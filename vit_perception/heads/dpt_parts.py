"""The parts of a DPT head: from tokens back to an image, and fusion of images of several sizes.

Source: Ranftl et al. 2021 (arXiv:2103.13413); the residual unit is that of RefineNet (Lin et al.
2017, arXiv:1611.06612) with its activation first. Shapes: B images, N tokens, D channels, C
channels of a level.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vit_perception.files.errors import InvalidValue

READOUTS = ("ignore", "add", "project")


class FixedBatchNorm(nn.Module):
    """Batch normalisation of (B, C, H, W) by the statistics of training.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        for name in ("weight", "running_var"):
            self.register_parameter(name, nn.Parameter(torch.ones(channels)))
        for name in ("bias", "running_mean"):
            self.register_parameter(name, nn.Parameter(torch.zeros(channels)))

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Reassemble(nn.Module):
    """Turns tokens (B, N, D) of one block into an image (B, C, rows · factor, columns · factor).

    ``readout`` says what happens to the CLS token: ``ignore`` it, ``add`` it to each patch, or
    ``project`` each patch concatenated with it. ``factor`` is a whole number, or one divided by
    one.
    """

    def __init__(self, width: int, channels: int, factor: float, readout: str, first_patch: int):
        super().__init__()
        self.kind = readout
        self.first_patch = first_patch
        self.readout = nn.Linear(2 * width, width) if readout == "project" else None
        self.project = nn.Conv2d(width, channels, 1)
        self.resize = make_resize(channels, factor)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        cls_token = tokens[:, :1]
        patches = tokens[:, self.first_patch :]
        if self.kind == "add":
            patches = patches + cls_token
        elif self.kind == "project":
            patches = functional.gelu(
                self.readout(torch.cat([patches, cls_token.expand_as(patches)], dim=2))
            )
        return self.resize(self.project(patches.transpose(1, 2).unflatten(2, grid)))


def make_resize(channels: int, factor: float) -> nn.Module:
    """Make a learned resize of (B, C, H, W) by ``factor``.

    Raises:
        InvalidValue: No such layer has this factor.
    """
    whole = factor if factor >= 1 else 1 / factor if factor > 0 else 0
    if whole < 1 or whole != int(whole):
        raise InvalidValue(
            f"the reassemble factor is {factor!r}; accepted: a whole number, or one divided by one"
        )
    if factor == 1:
        return nn.Identity()
    if factor > 1:
        return nn.ConvTranspose2d(channels, channels, int(whole), stride=int(whole))
    return nn.Conv2d(channels, channels, 3, stride=int(whole), padding=1)


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))) on (B, C, H, W).

    With ``batch_norm`` a batch normalisation follows each convolution.
    """

    def __init__(self, channels: int, bias: bool, batch_norm: bool):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm_first = FixedBatchNorm(channels) if batch_norm else nn.Identity()
        self.norm_second = FixedBatchNorm(channels) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm_first(self.first(functional.relu(x)))
        return x + self.norm_second(self.second(functional.relu(inner)))


class Fusion(nn.Module):
    """One step from coarse to fine: adds the level's own image, and doubles the size.

    The first step has no earlier result, and so no ``skip``.
    """

    def __init__(self, channels: int, bias: bool, batch_norm: bool, first: bool):
        super().__init__()
        self.skip = None if first else ResidualUnit(channels, bias, batch_norm)
        self.refine = ResidualUnit(channels, bias, batch_norm)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, level: Tensor, before: Tensor | None, size: tuple[int, int] | None) -> Tensor:
        """Fuse ``level`` and ``before``, both (B, C, H, W), into (B, C, *size).

        The first step has no ``before``. ``size`` None is twice the size.
        """
        if before is not None:
            if level.shape != before.shape:
                level = functional.interpolate(level, before.shape[2:], mode="bilinear")
            level = before + self.skip(level)
        refined = self.refine(level)
        size = size or (2 * refined.shape[2], 2 * refined.shape[3])
        return self.project(
            functional.interpolate(refined, size, mode="bilinear", align_corners=True)
        )
