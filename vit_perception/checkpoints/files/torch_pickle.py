"""The pickle in a torch file, read without running what it names: tensors become views of storages,
not yet read.

Unpickling knows the functions that rebuild tensors, containers of data, and nothing else.
:mod:`vit_perception.checkpoints.files.pickle_guard` looks through the pickle first.
"""

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from vit_perception.files.errors import InvalidValue

MOST_PICKLE_BYTES = 16 << 20
_MOST_DIMENSIONS = 16


class View(NamedTuple):
    """A tensor as the pickle describes it."""

    # Of the storage.
    key: str
    dtype: torch.dtype
    # Counted in elements.
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.size)

    @property
    def end(self) -> int:
        """The first element of the storage after all that it takes."""
        if not self.elements:
            return self.offset
        steps = ((side - 1) * step for side, step in zip(self.size, self.stride))
        return self.offset + 1 + sum(steps)


class Storage(NamedTuple):
    """A storage that the pickle names: numbers of ``dtype`` under ``key``."""

    key: str
    dtype: torch.dtype


class Inert(dict):
    """Stand-in for a class that holds data: it keeps the attributes and does nothing."""

    __hash__ = object.__hash__

    def __init__(self, *_: Any, **__: Any):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.update(state)


class Unpickled(NamedTuple):
    """What a pickle holds."""

    held: Any
    # The type of every storage that it names, by key.
    storages: dict[str, torch.dtype]


def unpickled(content: bytes) -> Unpickled:
    """Unpickle what ``pickle_end`` looked through: tensors as :class:`View`, a TorchScript module's
    classes as :class:`Inert`.

    Raises:
        ValueError, UnpicklingError: It names something else; a broken pickle raises others.
    """
    unpickler = _Unpickler(content)
    return Unpickled(unpickler.load(), unpickler.storages)


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors and containers, and refuses any other name."""

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
    """Rebuild a tensor of ``_rebuild_tensor_v3``: the storage is of bytes, the type the third of
    the last arguments.
    """
    if not isinstance(rest[2], torch.dtype):
        raise InvalidValue(f"a tensor of {rest[2]!r:.40}")
    return _view(Storage(storage.key, rest[2]), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _rebuilt(build: Any, _: Any, arguments: tuple, *__: Any) -> Any:
    """Rebuild a tensor with attributes: the tensor alone."""
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
    # Other data that training scripts save with the weights.
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
