"""Number columns of a LeRobot data set: which are kept with the features, and their values."""

import math
from typing import Any

import numpy as np

from vit_perception.datasets.lerobot.info import MOST_NUMBERS, LeRobotInfo
from vit_perception.datasets.lerobot.layout import (
    EPISODE_INDEX,
    FRAME_INDEX,
    INDEX,
    TASK_INDEX,
    TIMESTAMP,
)
from vit_perception.files.errors import shown
from vit_perception.wire.records import BadInput

CARRIED = (EPISODE_INDEX, FRAME_INDEX, TASK_INDEX)
# What these say stands in columns of our own.
_OURS = (TIMESTAMP, INDEX)
_NUMBERS = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
# Of the types whose names differ from NumPy's.
_ARROW_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}
# Columns that every shard has; those of a camera begin with its name and a dot.
_TAKEN = ("source", "episode", "layout", "recorded_ns", "stamp_ns", "mask", "tokens", "embedding")


class NumberColumns:
    """The columns of ``info`` that hold numbers.

    ``left_out`` says why each of the others is not kept.
    """

    def __init__(self, info: LeRobotInfo, schema: Any, cameras: list[str]):
        import pyarrow as pa

        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, np.dtype] = {}
        self.left_out: dict[str, str] = {}
        numbers = 0
        for key, feature in info.features.items():
            if feature.is_image or key in _OURS:
                continue
            kind = schema.field(key).type if key in schema.names else None
            while kind is not None and pa.types.is_nested(kind) and not pa.types.is_struct(kind):
                kind = kind.value_type
            stored = _numpy_of(kind)
            if kind is None:
                why = "the data files have no such column"
            elif feature.dtype not in _NUMBERS or stored is None:
                why = (
                    f"it holds {feature.dtype}, stored as {str(kind)[:40]}; columns of numbers go "
                    "along"
                )
            elif not _can_hold(np.dtype(feature.dtype), stored):
                why = f"it is stored as {kind}, which is no {feature.dtype}"
            elif (
                not 0 < (count := math.prod(feature.shape)) <= MOST_NUMBERS
                or numbers + count > MOST_NUMBERS
            ):
                why = (
                    f"a row has {shown(count)} numbers, besides {numbers} of others; up to "
                    f"{MOST_NUMBERS} go along"
                )
            elif key in _TAKEN or any(key.startswith(f"{camera}.") for camera in cameras):
                why = "a column of the features has its name"
            else:
                numbers += count
                self._shapes[key] = () if feature.shape in ((1,), ()) else feature.shape
                self._dtypes[key] = np.dtype(np.int64 if key in CARRIED else feature.dtype)
                continue
            self.left_out[key] = why

    @property
    def names(self) -> list[str]:
        return list(self._shapes)

    def of(self, row: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the values of one row.

        Raises:
            BadInput: A value is missing, or has another shape than info.json says.
        """
        values = {}
        for key, shape in self._shapes.items():
            try:
                value = np.asarray(row[key])
                whole = value.astype(self._dtypes[key]).reshape(shape)
            except (TypeError, ValueError, OverflowError) as error:
                raise BadInput(
                    "column", f"{key} has no numbers of shape {list(shape)}: {error}"
                ) from error
            same = whole.dtype.kind not in "iu" or np.array_equal(value.reshape(shape), whole)
            if value.dtype.kind not in "fiub" or not same:
                raise BadInput(
                    "column",
                    f"{key} has values that are no {whole.dtype}; accepted: what info.json says",
                )
            values[key] = whole
        return values


def _can_hold(declared: np.dtype, stored: np.dtype) -> bool:
    """Whether a number of kind ``stored`` may become ``declared``.

    Each value of whole numbers is compared later.
    """
    return np.can_cast(stored, declared, "same_kind") or {stored.kind, declared.kind} == {"i", "u"}


def _numpy_of(kind: Any) -> np.dtype | None:
    """Return the NumPy type of an Arrow type; None if it is no number.

    pyarrow is not asked: it may ask pandas.
    """
    name = _ARROW_NAMES.get(str(kind), str(kind))
    return np.dtype(name) if name in _NUMBERS else None
