"""The tensors of a compiled engine, checked, and their places in one block of memory.

All outputs share one block on the GPU, and one with the same layout on the host. So a frame is one
upload, one run and one download.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.wire.records import ENCODER_ARRAYS

INPUT_NAME = "images"
# TensorRT asks for no more than this of an address.
ALIGNMENT_BYTES = 256
_ITEM_BYTES = {"uint8": 1, "float32": 4}
# TensorRT's names of the types that inputs and outputs of the exported graph may have.
_TYPES = {"UINT8": "uint8", "FLOAT": "float32"}


@dataclass(frozen=True)
class TensorFacts:
    """What the runtime says about one input or output."""

    name: str
    is_input: bool
    # The runtime's name, for example "FLOAT".
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """The place of one float32 output."""

    name: str
    shape: tuple[int, ...]
    # Into the block, in bytes.
    offset: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES["float32"]


@dataclass(frozen=True)
class BufferTable:
    """The buffers of an engine."""

    # (B, 3, H, W), uint8
    input_shape: tuple[int, int, int, int]
    # In the engine's order.
    outputs: tuple[Slot, ...]
    # Of the block of outputs.
    size_bytes: int


def buffer_table(tensors: Iterable[TensorFacts], spec: EngineSpec) -> BufferTable:
    """Lay out the buffers of an engine for ``spec``.

    Raises:
        EngineError: The tensors are not the encoder graph's, or the engine was built for another
            batch or size.
    """
    tensors = tuple(tensors)
    expected = (spec.batch, 3, *spec.network_size_px)
    found = [(t.name, _TYPES.get(t.type, t.type), t.shape) for t in tensors if t.is_input]
    if found != [(INPUT_NAME, "uint8", expected)]:
        raise EngineError(
            f"the engine's inputs are {found}; accepted: {INPUT_NAME!r}, uint8, {expected}"
        )
    outputs = {t.name: t for t in tensors if not t.is_input}
    names = set(ENCODER_ARRAYS)
    if not names - {"logits", "block_tokens"} <= set(outputs) <= names:
        raise EngineError(
            f"the engine's outputs are {sorted(outputs)}; accepted: {sorted(names)}, logits where "
            "there is a head, block_tokens with a dense one"
        )
    slots = []
    end = 0
    for name, tensor in outputs.items():
        if (
            _TYPES.get(tensor.type) != "float32"
            or tensor.shape[:1] != (spec.batch,)
            or min(tensor.shape) < 1
        ):
            raise EngineError(
                f"the engine's output {name} is {tensor.type} {tensor.shape}; accepted: FLOAT "
                f"({spec.batch}, ...)"
            )
        slots.append(Slot(name, tensor.shape, end))
        end = -(-(end + slots[-1].size_bytes) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return BufferTable(expected, tuple(slots), end)
