"""How the policies' own code prepares an image, written out: (H, W, 3) uint8 and the side in px to
(3, side, side) from 0 to 255.
"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional


def prepared_by_lerobot(pixels: np.ndarray, side_px: int) -> torch.Tensor:
    """π0 in LeRobot: floats, not antialiased, in the middle of black."""
    small = _resized(pixels, side_px)
    rest = [side_px - side for side in small.shape[2:]]
    before = [side // 2 for side in rest]
    margins = (before[1], rest[1] - before[1], before[0], rest[0] - before[0])
    return functional.pad(small, margins)[0]


def prepared_by_smolvla(pixels: np.ndarray, side_px: int) -> torch.Tensor:
    """SmolVLA: floats, not antialiased, black above and on the left."""
    small = _resized(pixels, side_px)
    height, width = small.shape[2:]
    return functional.pad(small, (side_px - width, 0, side_px - height, 0))[0]


def prepared_by_openpi(pixels: np.ndarray, side_px: int) -> torch.Tensor:
    """π0 in openpi: bytes, Pillow's bilinear, in the middle of black."""
    height, width = _size_of(pixels, side_px)
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (side_px, side_px))
    whole.paste(small, ((side_px - width) // 2, (side_px - height) // 2))
    return torch.from_numpy(np.array(whole)).permute(2, 0, 1).float()


def _resized(pixels: np.ndarray, side_px: int) -> torch.Tensor:
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    size = _size_of(pixels, side_px)
    return functional.interpolate(image, size, mode="bilinear", align_corners=False)


def _size_of(pixels: np.ndarray, side_px: int) -> tuple[int, int]:
    ratio = max(side / side_px for side in pixels.shape[:2])
    return int(pixels.shape[0] / ratio), int(pixels.shape[1] / ratio)


def prepared_by_multi_task_dit(
    pixels: np.ndarray, resize: list[int] | None, crop: list[int] | None
) -> torch.Tensor:
    """multi_task_dit in LeRobot: floats, antialiased, then the centre; (3, rows, columns)."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    if resize is not None:
        image = functional.interpolate(
            image, tuple(resize), mode="bilinear", align_corners=False, antialias=True
        )
    height, width = image.shape[2:]
    if crop is None or crop[0] > height or crop[1] > width:
        return image[0]
    top, left = round((height - crop[0]) / 2), round((width - crop[1]) / 2)
    return image[0, :, top : top + crop[0], left : left + crop[1]]


def prepared_by_evo1(pixels: np.ndarray, side_px: int) -> torch.Tensor:
    """evo1 in LeRobot: bytes, torch's antialiased bicubic, stretched."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    size = (side_px, side_px)
    return functional.interpolate(image, size, mode="bicubic", antialias=True)[0].float()
