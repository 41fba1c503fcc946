"""Read the files of `vit-perception embed` row by row: Parquet and safetensors."""

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.files.safetensors_header import read_header
from vit_perception.files.storage.urls import is_url
from vit_perception.policy.token_columns import TokenColumns
from vit_perception.wire.layout import Layout

FORMAT = "vit_perception.embed"
READABLE = ("parquet", "safetensors")
OPEN_FILES = 16
KEPT_GROUPS = 8  # row groups of each Parquet file


class FeatureFiles:
    """One finished folder of `embed`. Rows are numbered from 0 over all files.

    docs/bags.md describes the columns. ``layouts`` are those that occur. ``stamp_ns``, ``episode``
    and ``layout_index`` are (rows,) int64, read at the start; files are opened when first needed.
    With ``expand`` False, coefficients of a basis are not restored to tokens: they are columns
    ``coefficients.<group>``, and ``tokens`` has the rows of the other groups.

    Raises:
        InvalidValue: the folder is not one of `embed`, is not finished, or has another format.
    """

    def __init__(self, folder: Path | str, expand: bool = True):
        if isinstance(folder, str) and is_url(folder):
            raise InvalidValue(
                f"{folder} is on object storage; accepted: a local folder",
                hint="vit_perception.files.storage.copying.fetch_folder copies it",
            )
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise InvalidValue(
                f"{self.folder} has no manifest.json; accepted: a folder of `vit-perception embed`"
            )
        self.manifest = json.loads(path.read_text())
        if self.manifest.get("format") != FORMAT:
            raise InvalidValue(
                f"{path} has format {self.manifest.get('format')!r}; accepted: {FORMAT}"
            )
        if not self.manifest["complete"]:
            raise InvalidValue(
                f"{self.folder} is not finished; give the same `vit-perception embed` command again"
            )
        self.file_format = self.manifest["run"]["file_format"]
        if self.file_format not in READABLE:
            raise InvalidValue(
                f"{self.folder} is of {self.file_format}; accepted: {' or '.join(READABLE)}"
            )
        self.layouts = tuple(
            Layout.from_json(json.dumps(layout)) for layout in self.manifest["layouts"]
        )
        shards = self.manifest["shards"]
        self._paths = [self.folder / shard["file"] for shard in shards]
        self._starts = np.cumsum([0, *(shard["frames"] for shard in shards)])
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._opened_by = os.getpid()
        index = [self._whole(k, ("stamp_ns", "episode", "layout")) for k in range(len(shards))]
        self.stamp_ns, self.episode, self.layout_index = (
            np.concatenate([part[name] for part in index]) if index else np.zeros(0, np.int64)
            for name in ("stamp_ns", "episode", "layout")
        )
        self.columns = self._file(0).names if shards else ()
        self._tokens = TokenColumns(self.folder, self.layouts, expand)
        self.columns = (*self.columns, *self.coefficients)

    @property
    def coefficients(self) -> tuple[str, ...]:
        """The columns ``coefficients.<group>``; none unless ``expand`` is False."""
        return self._tokens.coefficients

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without open files: another process opens its own."""
        return self.__dict__ | {"_open": OrderedDict()}

    def row(self, index: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Return the columns ``names`` of one row. Tokens in eight bits are restored to float32.

        Raises:
            KeyError: there is no such column; the message names those that there are.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise KeyError(f"no column {', '.join(missing)}; there are: {', '.join(self.columns)}")
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        stored = self._tokens.stored(names)
        row = self._file(shard).row(index - int(self._starts[shard]), stored)
        return self._tokens.restored(row, names)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            InvalidValue: a file is damaged.
        """
        from vit_perception.files.atomic import file_sha256

        for path, shard in zip(self._paths, self.manifest["shards"]):
            if (found := file_sha256(path)) != shard["sha256"]:
                raise InvalidValue(
                    f"{path} has sha256 {found}; accepted: {shard['sha256']}, as the manifest says"
                )

    def _file(self, shard: int) -> Any:
        # A forked worker has its parent's handles: each process opens its own.
        if self._opened_by != os.getpid():
            self._open = OrderedDict()
            self._opened_by = os.getpid()
        if shard not in self._open:
            while len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)
            kind = _ParquetRows if self.file_format == "parquet" else _SafetensorsRows
            self._open[shard] = kind(self._paths[shard])
        self._open.move_to_end(shard)
        return self._open[shard]

    def _whole(self, shard: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return self._file(shard).whole(names)


class _SafetensorsRows:
    """One safetensors file, memory-mapped: only the row itself is read."""

    def __init__(self, path: Path):
        from safetensors import safe_open

        read_header(path)  # before a library allocates what it says
        self._file = safe_open(path, framework="numpy")
        self.names = tuple(self._file.keys())
        self._slices = {name: self._file.get_slice(name) for name in self.names}

    def whole(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {name: self._file.get_tensor(name) for name in names}

    def row(self, index: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {name: self._slices[name][index : index + 1][0] for name in names}


class _ParquetRows:
    """One Parquet file, memory-mapped: a row is read with its group; the last groups are kept."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path, memory_map=True)
        schema = self._file.schema_arrow
        self.names = tuple(schema.names)
        self._shapes = {}
        for name in self.names:
            shape = schema.metadata[f"shape.{name}".encode()].decode()
            self._shapes[name] = tuple(map(int, shape.split(","))) if shape else ()
        metadata = self._file.metadata
        sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._groups: OrderedDict[tuple, dict[str, np.ndarray]] = OrderedDict()

    def whole(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return self._arrays(self._file.read(columns=list(names), use_threads=False))

    def row(self, index: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        key = (group, names)
        if key not in self._groups:
            while len(self._groups) >= KEPT_GROUPS:
                self._groups.popitem(last=False)
            # Workers are many processes already, and Arrow's threads do not survive a fork.
            self._groups[key] = self._arrays(
                self._file.read_row_group(group, columns=list(names), use_threads=False)
            )
        return {
            name: values[index - int(self._starts[group])]
            for name, values in self._groups[key].items()
        }

    def _arrays(self, table: Any) -> dict[str, np.ndarray]:
        arrays = {}
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            flat = column.flatten() if self._shapes[name] else column
            arrays[name] = flat.to_numpy(zero_copy_only=False).reshape(
                len(column), *self._shapes[name]
            )
        return arrays
