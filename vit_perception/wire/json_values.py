"""JSON values read as the types of dataclass fields, and the differences of two such values."""

from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from vit_perception.wire.records import BadInput

MAX_INTEGER = 2**31 - 1


def parsed(kind: Any, value: Any, where: str) -> Any:
    """Return the JSON ``value`` as the type ``kind``.

    ``kind`` is a dataclass, a tuple, a number, a text, or one of these or None.

    Raises:
        BadInput: ``layout``, for a value of another type; the message begins with ``where``.
    """
    arguments = get_args(kind)
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
        hints = get_type_hints(kind)
        missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in value]
        if missing:
            raise BadInput(
                "layout", f"{where} lacks {', '.join(missing)}; accepted: {', '.join(hints)}"
            )
        return kind(
            **{n: parsed(hints[n], v, f"{where}.{n}") for n, v in value.items() if n in hints}
        )
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(
                parsed(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value))
            )
    elif NoneType in arguments:
        return None if value is None else parsed(arguments[0], value, where)
    elif (kind is float and type(value) in (int, float) and abs(value) <= MAX_INTEGER) or (
        (kind is int and type(value) is int and 0 <= value <= MAX_INTEGER)
        or (kind in (str, bool) and type(value) is kind)
    ):
        return value
    raise BadInput(
        "layout",
        f"{where} is {value!r:.80}; accepted: {getattr(kind, '__name__', kind)} as in "
        "docs/wire_format.md",
    )


def differing_fields(expected: Any, found: Any, name: str = "") -> list[str]:
    """Return the differences of two JSON-like values, one line each.

    For example ``cameras.0.labels is [] where ['cup'] is expected``.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [*expected, *(k for k in found if k not in expected)]
        return [
            line
            for key in keys
            for line in differing_fields(
                expected.get(key), found.get(key), f"{name}.{key}" if name else str(key)
            )
        ]
    both_lists = isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple))
    if both_lists and len(expected) == len(found):
        return [
            line
            for k, (one, other) in enumerate(zip(expected, found))
            for line in differing_fields(one, other, f"{name}.{k}")
        ]
    same = list(expected) == list(found) if both_lists else expected == found
    return [] if same else [f"{name} is {found!r} where {expected!r} is expected"]
