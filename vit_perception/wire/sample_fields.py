"""The numbers of a pose, a joint state or another source, as fields of its message and back."""

import array
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.layout_sources import LayoutSource
from vit_perception.wire.stamps import header_fields


def sample_fields(source: LayoutSource, value: Any) -> dict[str, Any]:
    """Return the fields of the message of ``source`` for the sample ``value``."""
    fields: dict[str, Any] = {"header": header_fields(value.stamp_ns, value.frame_id)}
    if source.names:
        fields["name"] = list(source.names)
    for path, numbers in zip(source.fields, value.numbers.reshape(len(source.fields), -1)):
        *outer, last = path.split(".")
        inner = fields
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = array.array("d", numbers) if source.names else float(numbers[0])
    return fields


def sample_numbers(source: LayoutSource, message: Any) -> np.ndarray:
    """Return the numbers of ``source`` in a message of its topic, (count,) float64.

    Raises:
        InvalidValue: a field has another count of numbers than the layout says.
    """
    columns = []
    for path in source.fields:
        value = message
        for part in path.split("."):
            value = getattr(value, part)
        columns.append(np.atleast_1d(np.asarray(value, np.float64)))
    if any(len(column) * len(source.fields) != source.count for column in columns):
        raise InvalidValue(
            f"{source.topic} has {' and '.join(str(len(c)) for c in columns)} numbers; accepted: "
            f"{source.count // len(source.fields)} of each field"
        )
    return np.concatenate(columns)
