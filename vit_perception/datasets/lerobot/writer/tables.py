"""The Parquet and JSON files of a LeRobot data set: features to columns, tasks, episodes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_perception.datasets.lerobot.layout import (
    EPISODE_INDEX,
    FRAME_INDEX,
    INDEX,
    TASK_INDEX,
    TIMESTAMP,
)
from vit_perception.datasets.lerobot.writer.statistics import Statistics
from vit_perception.files.atomic import write_whole

# Pandas' name of an index that has none; LeRobot reads the tasks with pandas, as an index.
_PANDAS_INDEX = "__index_level_0__"


class Written(NamedTuple):
    """One feature of info.json."""

    # As NumPy names it, or ``image`` or ``video``.
    dtype: str
    # Of one frame.
    shape: tuple[int, ...]
    # A name for each number, or for each axis of a picture; None without.
    names: list[str] | None = None
    # Whether LeRobot is told mean, deviation and range, which it normalises with.
    has_statistics: bool = True

    @property
    def is_picture(self) -> bool:
        return self.dtype in ("image", "video")

    @property
    def bytes(self) -> int:
        """The size of one frame's value; of a picture, at most about that."""
        size = 1 if self.is_picture else np.dtype(self.dtype).itemsize
        return int(np.prod(self.shape)) * size


# Those that every data set has, after its own.
COMMON = {
    TIMESTAMP: Written("float32", (1,)),
    FRAME_INDEX: Written("int64", (1,)),
    EPISODE_INDEX: Written("int64", (1,)),
    INDEX: Written("int64", (1,)),
    TASK_INDEX: Written("int64", (1,)),
}


def in_info(features: Mapping[str, Written], videos: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``features`` as info.json has them; ``videos`` says more of each video."""
    return {
        key: {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": feature.names,
            **({"info": videos[key]} if key in videos else {}),
        }
        for key, feature in features.items()
    }


def schema_of(features: Mapping[str, Written]) -> Any:
    """Return the Arrow schema of a data file; videos are no columns."""
    import pyarrow as pa

    return pa.schema(
        [(key, _arrow_type(f)) for key, f in features.items() if f.dtype != "video"],
        metadata={"huggingface": json.dumps({"info": {"features": _hugging_face(features)}})},
    )


def _arrow_type(feature: Written) -> Any:
    import pyarrow as pa

    if feature.dtype == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kind = pa.from_numpy_dtype(np.dtype(feature.dtype))
    if feature.shape == (1,):
        return kind
    if len(feature.shape) == 1:
        return pa.list_(kind, feature.shape[0])
    for _ in feature.shape:
        kind = pa.list_(kind)
    return kind


def _hugging_face(features: Mapping[str, Written]) -> dict[str, Any]:
    """Return what the package ``datasets`` calls the columns, so that it opens a file alone."""
    found: dict[str, Any] = {}
    for key, feature in features.items():
        value = {"dtype": feature.dtype, "_type": "Value"}
        if feature.dtype == "image":
            found[key] = {"_type": "Image"}
        elif feature.shape == (1,):
            found[key] = value
        elif len(feature.shape) == 1:
            found[key] = {"feature": value, "length": feature.shape[0], "_type": "List"}
        elif feature.dtype != "video":
            kind = f"Array{len(feature.shape)}D"
            found[key] = {"shape": list(feature.shape), "dtype": feature.dtype, "_type": kind}
    return found


def column_of_frames(feature: Written, values: Sequence[Any]) -> Any:
    """Return the Arrow array of one feature of some frames.

    ``values`` has an array for each frame, or the bytes of a picture's file.
    """
    import pyarrow as pa

    kind = _arrow_type(feature)
    if feature.dtype == "image":
        return pa.array([{"bytes": data, "path": None} for data in values], kind)
    stacked = np.stack([np.asarray(v, feature.dtype).reshape(feature.shape) for v in values])
    made = pa.array(stacked.reshape(-1))
    if feature.shape == (1,):
        return made
    if len(feature.shape) == 1:
        return pa.FixedSizeListArray.from_arrays(made, feature.shape[0])
    for length in reversed(feature.shape):
        offsets = pa.array(np.arange(0, len(made) + 1, length, dtype=np.int32))
        made = pa.ListArray.from_arrays(offsets, made)
    return made


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write the tasks, with what pandas needs to make its index of their texts."""
    import pyarrow as pa

    table = pa.table(
        {
            TASK_INDEX: pa.array(range(len(tasks)), pa.int64()),
            _PANDAS_INDEX: pa.array(list(tasks), pa.string()),
        }
    )

    def described(name: str | None, field: str, kind: str, numpy_kind: str) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": field,
            "pandas_type": kind,
            "numpy_type": numpy_kind,
            "metadata": None,
        }

    pandas = {
        "index_columns": [_PANDAS_INDEX],
        "column_indexes": [
            {**described(None, "", "unicode", "object"), "field_name": None}
            | {"metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            described(TASK_INDEX, TASK_INDEX, "int64", "int64"),
            described(None, _PANDAS_INDEX, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    _write_table(path, table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def write_episodes(path: Path, episodes: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each episode; statistics are flat, as ``stats/<feature>/<name>``."""
    import pyarrow as pa

    rows = [
        {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in episode.items()
        }
        for episode in episodes
    ]
    _write_table(path, pa.Table.from_pylist(rows))


def flat(statistics: Mapping[str, Statistics]) -> dict[str, np.ndarray]:
    """Return the statistics of an episode as columns of its row."""
    return {
        f"stats/{key}/{name}": values
        for key, of_feature in statistics.items()
        for name, values in of_feature.items()
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` with arrays as lists."""

    def listed(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        raise TypeError(type(value))

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=4, ensure_ascii=False, default=listed) + "\n"
    write_whole(path, lambda file: file.write_text(text, "utf-8"))


def _write_table(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as content:
        pq.write_table(table, content, compression="snappy")
