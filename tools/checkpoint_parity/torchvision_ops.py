"""Lets torchvision be imported beside a torch that its compiled part was not built for.

PyPI's torchvision is built for CUDA's torch; beside the CPU build its library of box operators does
not load, and the import then fails where it describes two of them. Declaring their names first is
enough. Nothing here uses them: image transforms on Pillow images are Python.
"""

import torch

_BOX_OPERATORS = ("nms", "qnms")
_library = torch.library.Library("torchvision", "FRAGMENT")


def declare() -> None:
    """Before the first import of torchvision, timm or open_clip."""
    for name in _BOX_OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _library.define(f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
