"""The pickle in a torch file, read without running what it names: tensors become views of storages,
not yet read.

Unpickling knows the functions that rebuild tensors, containers of data, and nothing else. Before
it, the opcodes are looked through: some few bytes of a pickle can hold a tuple that is hashed for
ever, or ask for a table of gigabytes.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from vit_perception.files.errors import InvalidValue

MOST_PICKLE_BYTES = 16 << 20
# A training checkpoint of a ViT-L with its optimiser has some 100,000.
_MOST_OPCODES = 1_000_000
# How many things a tuple may hold, with those inside of its tuples; a tensor's takes about 20.
_MOST_IN_TUPLE = 1000
_MOST_DIMENSIONS = 16
# The number that old files begin with has 77.
_MOST_BITS = 80
# What Python writes from version 2 of the protocol on, but for the opcodes of buffers and of
# copyreg's numbers.
_OPCODES = {
    "PROTO",
    "FRAME",
    "STOP",
    "MARK",
    "POP",
    "POP_MARK",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "SHORT_BINSTRING",
    "BINSTRING",
    "SHORT_BINBYTES",
    "BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "EMPTY_LIST",
    "APPEND",
    "APPENDS",
    "LIST",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_DICT",
    "DICT",
    "SETITEM",
    "SETITEMS",
    "EMPTY_SET",
    "ADDITEMS",
    "FROZENSET",
    "BINGET",
    "LONG_BINGET",
    "BINPUT",
    "LONG_BINPUT",
    "MEMOIZE",
    "GLOBAL",
    "STACK_GLOBAL",
    "REDUCE",
    "NEWOBJ",
    "NEWOBJ_EX",
    "BUILD",
    "BINPERSID",
}


class View(NamedTuple):
    """A tensor as the pickle describes it: ``key`` names the storage; offset, size and stride count
    elements.
    """

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        count = 1
        for side in self.size:
            count *= side
        return count

    @property
    def end(self) -> int:
        """The first element of the storage behind all that it takes."""
        if not self.elements:
            return self.offset
        return (
            self.offset + 1 + sum((side - 1) * step for side, step in zip(self.size, self.stride))
        )


class Storage(NamedTuple):
    """One storage that the pickle names: numbers of ``dtype`` under ``key``."""

    key: str
    dtype: torch.dtype


class Inert(dict):
    """Stands for a class that holds data: it keeps the attributes and does nothing."""

    __hash__ = object.__hash__

    def __init__(self, *_: Any, **__: Any):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.update(state)


def pickle_end(content: bytes) -> int:
    """Where the pickle at the start of ``content`` ends. Raises ValueError for a harmful one, and a
    broken one.

    It follows the stack of the unpickler, with the number of things in each tuple in place of the
    values.
    """
    stack: list[int | None] = []  # None is a mark
    memo: dict[int, int] = {}
    for number, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(content))):
        name = opcode.name
        if name not in _OPCODES or number > _MOST_OPCODES:
            raise InvalidValue(
                f"the opcode {name} in its pickle"
                if name not in _OPCODES
                else f"more than {_MOST_OPCODES} opcodes in its pickle"
            )
        if (isinstance(argument, int) and argument.bit_length() > _MOST_BITS) or (
            name == "FRAME" and argument > len(content)
        ):
            raise InvalidValue(f"a number of {argument.bit_length()} bits in its pickle")
        if name == "STOP":
            return position + 1
        if name == "MARK":
            stack.append(None)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if name == "MEMOIZE" else argument
            if place > _MOST_OPCODES:
                raise InvalidValue(f"the place {place} in its pickle's memory")
            memo[place] = stack[-1] or 0
        else:
            held = 1 + sum(_taken(stack, opcode))
            if held > _MOST_IN_TUPLE:
                raise InvalidValue(f"a tuple of more than {_MOST_IN_TUPLE} things in its pickle")
            if opcode.stack_after:
                stack.append(
                    held
                    if "TUPLE" in name or name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "FROZENSET")
                    else 1
                )
    raise InvalidValue("no end of its pickle")


def _taken(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What the opcode takes off the stack; of what goes into a list, dictionary or set only its
    largest.
    """
    wanted, taken = len(opcode.stack_before), []
    if wanted and opcode.stack_before[-1] is pickletools.stackslice:
        wanted -= 2
        while (value := stack.pop()) is not None:
            taken.append(value)
    elif opcode.stack_before == [pickletools.markobject]:
        wanted = 1
    taken += [stack.pop() or 0 for _ in range(wanted)]
    holds_parts = "TUPLE" in opcode.name or opcode.name in (
        "REDUCE",
        "NEWOBJ",
        "NEWOBJ_EX",
        "FROZENSET",
    )
    return taken if holds_parts else []


class Unpickled(NamedTuple):
    """What a pickle holds, and the type of every storage that it names."""

    held: Any
    storages: dict[str, torch.dtype]


def unpickled(content: bytes) -> Unpickled:
    """The content of a pickle that :func:`pickle_end` has looked through: tensors as :class:`View`,
    classes of a TorchScript module's own as :class:`Inert`. Raises ValueError, UnpicklingError, and
    what a broken pickle causes.
    """
    unpickler = _Unpickler(content)
    return Unpickled(unpickler.load(), unpickler.storages)


class _Unpickler(pickle.Unpickler):
    """Knows tensors and containers; any other name in the pickle is refused."""

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.storages: dict[str, torch.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return Inert
        if module in ("torch", "torch.cuda"):
            dtype = _STORAGES.get(name) or getattr(torch, name, None)
            if isinstance(dtype, torch.dtype):
                return dtype
        if module == "torch.jit._pickle":  # typed lists: the list alone
            return _first
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise pickle.UnpicklingError(
            f"it names {f'{module}.{name}'[:100]}, which is no part of a file of tensors"
        )

    def persistent_load(self, identifier: Any) -> Storage:
        kind, dtype, key, _, _, *view = identifier
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or not isinstance(key, str)
            or any(view)
        ):
            raise pickle.UnpicklingError(f"it refers to a {str(kind)[:100]} that is no storage")
        if self.storages.setdefault(key, dtype) != dtype:
            raise pickle.UnpicklingError(
                f"the storage {key[:40]} is of {self.storages[key]} and of {dtype}"
            )
        return Storage(key, dtype)


def _view(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> View:
    numbers = (offset, *size, *stride)
    if (
        len(size) != len(stride)
        or len(size) > _MOST_DIMENSIONS
        or not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
    ):
        raise InvalidValue(
            f"a tensor with the offset {offset}, the size {size} and the stride {stride}"[:300]
        )
    return View(storage.key, storage.dtype, offset, tuple(size), tuple(stride))


def _typed_view(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any
) -> View:
    """Of ``_rebuild_tensor_v3``, whose storage is of bytes; the type stands behind two other
    arguments.
    """
    if not isinstance(rest[2], torch.dtype):
        raise InvalidValue(f"a tensor of {rest[2]!r:.40}")
    return _view(Storage(storage.key, rest[2]), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _rebuilt(build: Any, _: Any, arguments: tuple, *__: Any) -> Any:
    """Of a tensor with attributes: the tensor."""
    if build not in (_view, _typed_view, _first):
        raise pickle.UnpicklingError("it rebuilds a tensor by another function than torch's")
    return build(*arguments)


_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_UTILS = "torch._utils"
_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    (_UTILS, "_rebuild_tensor"): _view,
    (_UTILS, "_rebuild_tensor_v2"): _view,
    (_UTILS, "_rebuild_tensor_v3"): _typed_view,
    (_UTILS, "_rebuild_parameter"): _first,
    (_UTILS, "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuilt,
    ("torch.storage", "UntypedStorage"): torch.uint8,
    ("torch", "Size"): tuple,
    # Data of their own kind that training scripts save beside the weights.
    **dict.fromkeys(
        (
            ("argparse", "Namespace"),
            ("torch", "device"),
            ("collections", "Counter"),
            ("torch.nn.parameter", "Parameter"),
            ("torch", "Tensor"),
            ("_codecs", "encode"),
        ),
        Inert,
    ),
}
