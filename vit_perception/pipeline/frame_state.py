"""What the frame loop knows of a frame, and of each of its three threads."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vit_perception.files.errors import OperationFailed
from vit_perception.pipeline.prepare import Prepared
from vit_perception.streams.image_extras import ImageExtras
from vit_perception.wire.records import EncoderOutput, FrameResult

# Takes the stamp of each camera's image, ns.
ExtrasAt = Callable[[Mapping[str, int]], ImageExtras]


class EngineFailed(OperationFailed):
    """The engine raised while it ran. What is wrong with it (a lost device) does not pass by
    itself.
    """


@dataclass(frozen=True, eq=False)
class Received:
    """An image message as it waits to be taken."""

    message: Any
    # Stamp of its header, ns.
    stamp_ns: int
    # When it came: monotonic, ns.
    arrived_ns: int
    # How long after its stamp that was, ms. None where the stamp is of another clock than the
    # node's (a bag without /clock).
    receive_ms: float | None = None


@dataclass(frozen=True)
class FrameCalls:
    """What is done with frames outside of the loop; each is called from any of its threads."""

    # Sends a frame.
    publish: Callable[[FrameResult], None]
    # Takes cameras' names, and the text of what was wrong with their images.
    warn: Callable[[Collection[str], str], None]
    # Is told what ended the work before ``stop`` was called, once.
    failed: Callable[[Exception], None]


@dataclass(eq=False)
class Frame:
    """One group of images, from when it is taken until each of them is accounted for."""

    # By camera.
    taken: dict[str, Received]
    # Which of the sets of buffers is its own: 0 or 1.
    buffers: int
    # Why an image is dropped, by camera; "" once it is published.
    outcome: dict[str, str]
    # How long it has waited between its steps, ms.
    waited_ms: float = 0.0
    # When it was taken, monotonic, ns.
    taken_ns: int = field(default_factory=time.monotonic_ns)
    # When its latest step ended, monotonic, ns; None before the first one.
    left_ns: int | None = None
    prepared: Prepared = field(init=False)
    output: EncoderOutput = field(init=False)

    def drop(self, cameras: Collection[str], reason: str) -> None:
        """Have the images of ``cameras`` counted as dropped for ``reason``."""
        self.outcome |= dict.fromkeys(cameras, reason)


class Step:
    """One of the loop's three threads: what it is at (``""``: it waits), and since when."""

    def __init__(self) -> None:
        self.now: tuple[str, float] = ("", time.monotonic())

    def at(self, name: str) -> None:
        """From now on it is at ``name``."""
        self.now = (name, time.monotonic())


def copied(output: EncoderOutput, kept: EncoderOutput | None) -> EncoderOutput:
    """``output`` in arrays of its own: those of ``kept``, which has the same shapes, where it is
    given. Takes 0.03 ms for the tokens of a ViT-S.
    """
    if kept is None:
        made = {name: array.copy() for name, array in output.arrays.items()}
        return EncoderOutput(**made, more=tuple(copied(each, None) for each in output.more))
    for name, array in output.arrays.items():
        np.copyto(getattr(kept, name), array)
    for one, its_own in zip(output.more, kept.more, strict=True):
        copied(one, its_own)
    return kept
