"""Check the header of a safetensors file (tensor names, types, shapes) before a library reads it.

Format: https://huggingface.co/docs/safetensors: eight bytes with the header's length, the header as
JSON, the tensors. The format allows headers of 100 MB, which take gigabytes when read.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import check_itself, open_regular

# 100,000 tensors would fit; the largest Vision Transformers have some thousand.
MOST_HEADER_BYTES = 16 << 20
MOST_TENSORS = 20_000
LONGEST_NAME = 1000


class BadHeader(InvalidValue):
    """A file is not in safetensors format; the message names it, the fault and what is accepted."""


class Header(NamedTuple):
    """What a safetensors header says."""

    shapes: dict[str, tuple[int, ...]]  # by tensor name
    dtypes: dict[str, str]  # by tensor name: F32, BF16, ...
    metadata: dict[str, str]  # free texts


def read_header(path: str | Path) -> Header:
    """Read the header of ``path``, neither reading the tensors nor checking their places.

    Raises:
        BadHeader: the header is missing, damaged or too large.
        IrregularFile: it is not a file, or only stands for one.
        OSError: it cannot be read.
    """
    length = check_itself(path)
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if length < 8 or size > length - 8:
            raise BadHeader(
                f"{path}: its {length} bytes do not hold the header that they declare; accepted: a "
                "whole safetensors file"
            )
        if size > MOST_HEADER_BYTES:
            raise BadHeader(
                f"{path} has a header of {size} bytes; accepted: up to {MOST_HEADER_BYTES}"
            )
        text = file.read(size)
    try:
        fields = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise BadHeader(
            f"{path}: its header is no JSON ({str(error)[:200]}); "
            "accepted: a whole safetensors file"
        ) from error
    return _checked(fields, path)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:100]!r} is in it twice")
    return fields


def _checked(fields: Any, path: str | Path) -> Header:
    if not isinstance(fields, dict) or len(fields) > MOST_TENSORS:
        kind = f"{len(fields)} names" if isinstance(fields, dict) else f"a {type(fields).__name__}"
        raise BadHeader(
            f"{path}: its header holds {kind}; accepted: up to {MOST_TENSORS} tensors by name"
        )
    metadata = fields.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise BadHeader(
            f"{path}: __metadata__ in its header is {str(metadata)[:80]}; accepted: texts by name"
        )
    shapes = {}
    dtypes = {}
    for name, field in fields.items():
        shape = field.get("shape") if isinstance(field, dict) else None
        if (
            len(name) > LONGEST_NAME
            or not isinstance(shape, list)
            or not isinstance(field.get("dtype"), str)
            or not all(type(side) is int and 0 <= side < 1 << 63 for side in shape)
        ):
            raise BadHeader(
                f"{path}: its header says of {name[:100]!r} {str(field)[:100]}; accepted: a name "
                f"of at most {LONGEST_NAME} letters, with dtype, shape and data_offsets"
            )
        shapes[name] = tuple(shape)
        dtypes[name] = field["dtype"]
    return Header(shapes, dtypes, metadata)
