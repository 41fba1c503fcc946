"""The baselines: a policy that is told the hand's pose alone, and a small network from scratch that
takes pictures instead of tokens.
"""

import cv2
import numpy as np
import torch
from chunk_policy import ChunkPolicy
from torch import Tensor, nn

from tools.closed_loop.interface import CAMERAS

# The pictures' side; the simulator's have twice that.
PICTURE_PX = 84
MAPS = 32
SHIFT_PX = 4
# What pictures are changed by while the network is trained.
AUGMENTATIONS = ("none", "jitter", "permute")


def shrunk(picture: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 as the network takes it."""
    return cv2.resize(picture, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)


class PosePolicy(ChunkPolicy):
    """Knows the hand's pose and the gripper's opening, and sees nothing."""

    def __init__(self, body_count: int, steps: int):
        super().__init__(0, body_count, steps)

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        """Return nothing, (B, 0)."""
        return body[:, :0]


class PixelPolicy(ChunkPolicy):
    """Convolutions on each camera's picture, then a softmax over places for each map."""

    takes = tuple(CAMERAS)

    def __init__(self, body_count: int, steps: int, augment: str = "none"):
        super().__init__(2 * MAPS * len(CAMERAS), body_count, steps)
        self.augment = augment
        self.see = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, 16, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, MAPS, 3, padding=1),
            )
            for _ in CAMERAS
        )

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        """Return the mean place of every map of every camera."""
        pictures = [inputs[name].permute(0, 3, 1, 2).float() / 255 for name in CAMERAS]
        if self.training and self.augment != "none":
            # The cameras see one scene in one light.
            change = permuted if self.augment == "permute" else jittered
            pictures = change(pictures)
            pictures = [shifted(picture) for picture in pictures]
        return torch.cat([self._places(k, p) for k, p in enumerate(pictures)], dim=1)

    def _places(self, camera: int, picture: Tensor) -> Tensor:
        maps = self.see[camera](picture - 0.5)  # (B, maps, h, w)
        height, width = maps.shape[2:]
        weights = maps.flatten(2).softmax(dim=2)
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        place = torch.stack([x.flatten(), y.flatten()], dim=1)
        return (weights @ place).flatten(1)


def jittered(pictures: list[Tensor]) -> list[Tensor]:
    """Change brightness and the gain of each channel, differently for each of the batch."""
    count = len(pictures[0])
    gain = torch.empty(count, 1, 1, 1).uniform_(0.4, 1.4)
    gain = gain * torch.empty(count, 3, 1, 1).uniform_(0.75, 1.25)
    return [(picture * gain).clamp(0, 1) for picture in pictures]


def permuted(pictures: list[Tensor]) -> list[Tensor]:
    """Exchange the channels, differently for each of the batch: colours lose their meaning."""
    order = torch.rand(len(pictures[0]), 3).argsort(dim=1)
    rows = torch.arange(len(order))[:, None]
    return [picture[rows, order] for picture in pictures]


def shifted(picture: Tensor) -> Tensor:
    """Shift each of the batch by up to ``SHIFT_PX``; the edge is repeated."""
    count, _, height, width = picture.shape
    padded = nn.functional.pad(picture, (SHIFT_PX,) * 4, mode="replicate")
    y = torch.randint(2 * SHIFT_PX + 1, (count,))
    x = torch.randint(2 * SHIFT_PX + 1, (count,))
    cut = [padded[i, :, y[i] : y[i] + height, x[i] : x[i] + width] for i in range(count)]
    return torch.stack(cut)
