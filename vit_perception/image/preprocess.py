"""Make the encoder's uint8 input of a decoded image, as the checkpoint's own preprocessing does.

Resizing is antialiased, like Pillow's, which checkpoints were trained with; OpenCV's cubic is not
and changes the features. The arithmetic on values (mean, std) is in the encoder's graph, so pixels
stay uint8 here.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as functional

from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizePlan, ResizeRule, plan_resize
from vit_perception.wire.records import BadInput, RgbImage, Roi

# A 1 px high strip would be resized to gigabytes, by a rule that keeps the aspect ratio.
MAX_RESIZED_PX = 1 << 26


class Preprocessor:
    """Applies ``rule`` to images of any size. Threads may share it: it keeps no pixels.

    Raises:
        InvalidValue: this version of torch cannot do the rule's interpolation.
    """

    def __init__(self, rule: ResizeRule):
        self.rule = rule
        self.plan = lru_cache(maxsize=64)(self._plan)
        try:
            _resize(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), (2, 2), rule.interpolation)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise InvalidValue(
                f"interpolation is {rule.interpolation!r}, which torch {torch.__version__} cannot "
                "do antialiased on uint8; accepted: bicubic, bilinear, nearest, or a newer torch: "
                "2.13 does lanczos, 2.8 does not"
            ) from error

    def _plan(self, source_size_px: tuple[int, int], roi: Roi | None = None) -> ResizePlan:
        """Return the plan for ``roi`` of a source of (height, width) px.

        Raises:
            BadInput: ``size``: the resized image would be too large. ``roi``: it is not inside the
                source.
        """
        plan = plan_resize(self.rule, source_size_px, roi)
        if plan.resized_size_px[0] * plan.resized_size_px[1] > MAX_RESIZED_PX:
            raise BadInput(
                "size",
                f"an image of {plan.region.height} x {plan.region.width} px would be resized to "
                f"{plan.resized_size_px[0]} x {plan.resized_size_px[1]}; accepted: "
                f"{MAX_RESIZED_PX} px in all after resizing, i.e. a less extreme aspect ratio",
            )
        return plan

    def __call__(
        self, image: RgbImage, out: torch.Tensor | None = None, roi: Roi | None = None
    ) -> torch.Tensor:
        """Return ``image`` as (3, H, W) uint8 RGB, contiguous: ``out``, if it is given.

        With ``roi`` only that part of the image is taken, as if the image ended at its edges.

        Raises:
            ValueError: ``out`` has another shape or type.
            BadInput: ``size``: the resized image would be too large. ``roi``: it is not inside the
                image.
        """
        plan = self.plan(image.size) if roi is None else self.plan(image.size, roi)
        height, width = plan.network_size_px
        if out is None:
            out = torch.empty(3, height, width, dtype=torch.uint8)
        elif (
            out.shape != (3, height, width) or out.dtype != torch.uint8 or out.device.type != "cpu"
        ):
            raise ValueError(
                f"out is {tuple(out.shape)} {out.dtype} on {out.device}; accepted: (3, {height}, "
                f"{width}) torch.uint8 on the CPU"
            )
        x, y, cut_width, cut_height = plan.region
        pixels = image.pixels[y : y + cut_height, x : x + cut_width]
        source, is_bgr = _as_tensor(pixels)
        resized = _resize(source, plan.resized_size_px, self.rule.interpolation)[0].numpy()
        top, left = plan.top_left_px
        resized = resized[:, max(0, -top) :, max(0, -left) :][:, :height, :width]
        # numpy from here: torch would split these few bytes among threads, and on a busy CPU wait
        # 8 ms for each.
        network = out.numpy()
        target = network[:, max(0, top) :, max(0, left) :]
        target = target[:, : resized.shape[1], : resized.shape[2]]
        if target.shape != network.shape:
            network[:] = np.array(self.rule.pad_value_rgb, np.uint8)[:, None, None]
        np.copyto(target, resized[::-1] if is_bgr else resized)
        return out


def _resize(images: torch.Tensor, size_px: tuple[int, int], interpolation: str) -> torch.Tensor:
    """Resize ``images`` (1, 3, H, W) uint8 as Pillow does: horizontally, rounded, vertically.

    Pillow 13 does the vertical pass first if the height shrinks more than the width
    (python-pillow/Pillow#9549). That differs by at most 14 levels, 0.3 on average; checkpoints were
    trained with earlier versions.
    """
    if interpolation == "nearest":
        rows, columns = (_nearest(length, new) for length, new in zip(images.shape[2:], size_px))
        return images[:, :, rows][:, :, :, columns]
    if interpolation == "bilinear_aliased":
        return functional.interpolate(images, size_px, mode="bilinear", align_corners=False)
    if interpolation == "bilinear_rounded":
        # As policies resize floats; on bytes torch cuts the fraction off, a whole level at most.
        resized = functional.interpolate(
            images.float(), size_px, mode="bilinear", align_corners=False
        )
        return resized.round_().to(torch.uint8)
    return functional.interpolate(images, size_px, mode=interpolation, antialias=True)


def _nearest(length: int, new_length: int) -> torch.Tensor:
    """Return the source pixel under the centre of each new one; centres are sums, as in Pillow.

    torch's nearest-exact works in float32: if a centre is on an edge, it takes the other pixel.
    """
    step = length / new_length
    centres = np.add.accumulate(np.r_[step / 2, np.full(new_length - 1, step)])
    return torch.from_numpy(np.minimum(centres.astype(np.int64), length - 1))


class _WritableAlias:
    """The memory of ``pixels`` without the read-only flag, about which torch would warn."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels  # keeps the memory alive
        self.__array_interface__ = {
            **pixels.__array_interface__,
            "data": (pixels.ctypes.data, False),
        }


def _as_tensor(pixels: np.ndarray) -> tuple[torch.Tensor, bool]:
    """Return (1, 3, H, W) uint8, a view of ``pixels`` (H, W, 3) if possible.

    Also returns whether its channels are B, G, R.
    """
    # torch has no negative strides: a bgr8 view is taken in the order of its memory.
    is_bgr = pixels.strides[2] < 0
    pixels = pixels[..., ::-1] if is_bgr else pixels
    if not pixels.flags.c_contiguous:
        # Padded rows and 16-bit samples. torch would also copy them, but in threads.
        pixels = np.ascontiguousarray(pixels)
    if not pixels.flags.writeable:
        pixels = np.asarray(_WritableAlias(pixels))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None], is_bgr
