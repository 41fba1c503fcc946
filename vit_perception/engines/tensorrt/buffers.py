"""Which tensors a compiled engine has, checked, and where each lies in one block of memory. Plain
Python.

All outputs share one block on the GPU and one, laid out alike, on the host: a frame is one copy up,
one run, one copy down.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.wire.records import EncoderOutput

INPUT_NAME = "images"
# At least what TensorRT asks of an address it is given.
ALIGNMENT_BYTES = 256
_ITEM_BYTES = {"uint8": 1, "float32": 4}
# TensorRT's names of the types that the exported graph may have at its ends.
_TYPES = {"UINT8": "uint8", "FLOAT": "float32"}


@dataclass(frozen=True)
class TensorFacts:
    """What the runtime says of one input or output; ``type`` is its name of the type, e.g.
    ``FLOAT``.
    """

    name: str
    is_input: bool
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """An output of ``shape`` (float32) at ``offset`` bytes into the block."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES["float32"]


@dataclass(frozen=True)
class BufferTable:
    """``input_shape`` (B, 3, H, W) uint8; ``outputs`` in the engine's order; ``size_bytes`` of
    their block.
    """

    input_shape: tuple[int, int, int, int]
    outputs: tuple[Slot, ...]
    size_bytes: int


def buffer_table(tensors: Iterable[TensorFacts], spec: EngineSpec) -> BufferTable:
    """Lay out the buffers of an engine for ``spec``.

    Raises EngineError where the tensors are not those of the encoder graph: an engine of something
    else, or one built for another batch or size.
    """
    tensors = tuple(tensors)
    expected = (spec.batch, 3, *spec.network_size_px)
    found = [(t.name, _TYPES.get(t.type, t.type), t.shape) for t in tensors if t.is_input]
    if found != [(INPUT_NAME, "uint8", expected)]:
        raise EngineError(
            f"the engine's inputs are {found}; accepted: {INPUT_NAME!r}, uint8, {expected}"
        )
    outputs = {t.name: t for t in tensors if not t.is_input}
    names = set(EncoderOutput.__dataclass_fields__)
    if not names - {"logits", "block_tokens"} <= set(outputs) <= names:
        raise EngineError(
            f"the engine's outputs are {sorted(outputs)}; accepted: {sorted(names)}, logits where "
            "there "
            "is a head, block_tokens with a dense one"
        )
    slots, end = [], 0
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
