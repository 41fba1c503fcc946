"""The files that `embed` writes: one shard per file, in one of ``FORMATS``.

A shard is written completely or not at all.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vit_perception.datasets.embed_columns import (
    DEFAULT_FEATURES,
    DENSE,
    FEATURES,
    Columns,
    FrameColumns,
)
from vit_perception.datasets.output_messages import OutputMessages, offered_qos
from vit_perception.files.atomic import put_in_place, working_folder, write_whole
from vit_perception.recordings.split import write_metadata
from vit_perception.recordings.writer import BagWriter
from vit_perception.wire.basis import Basis
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import CameraResult, FrameResult
from vit_perception.wire.topics import Outgoing

# Shuffled reading takes one row group at a time.
ROW_GROUP_BYTES = 4 << 20


class Shard(Protocol):
    """A shard being made: frames are added, then it is written. ``size_bytes`` grows with them."""

    size_bytes: int

    def add(
        self, place: dict[str, int], result: FrameResult, extras: dict[str, Any], layout: Layout
    ) -> None:
        """Add one frame; ``place`` holds index, source, episode, layout and recorded_ns."""

    def write(self, path: Path) -> None:
        """Write the complete shard to ``path``.

        Raises:
            OSError: It does not fit on the disk; nothing is left there.
        """

    def abandon(self) -> None:
        """Remove everything that was written."""


class ColumnShard:
    """Frames as columns, kept in memory until they are written as Parquet or safetensors."""

    def __init__(self, columns: FrameColumns, writer: Callable[[Path, Columns], None]):
        self._columns = columns
        self._writer = writer
        self._rows: list[Columns] = []
        self.size_bytes = 0

    def add(
        self, place: dict[str, int], result: FrameResult, extras: dict[str, Any], layout: Layout
    ) -> None:
        # Copies: the engine's arrays hold only until its next run.
        row = {name: np.array(value, np.int64) for name, value in place.items()}
        row |= {name: np.array(value) for name, value in self._columns.of(result, extras).items()}
        self._rows.append(row)
        self.size_bytes += sum(value.nbytes for value in row.values())

    def write(self, path: Path) -> None:
        stacked = self._stacked()
        write_whole(path, lambda file: self._writer(file, stacked))

    def _stacked(self) -> Columns:
        """Stack each column along a new first axis.

        Rows are freed as they are taken, so that the data is never in memory twice.
        """
        names = list(self._rows[0])
        stacked = {name: np.stack([row.pop(name) for row in self._rows]) for name in names}
        self._rows = []
        return stacked

    def abandon(self) -> None:
        self._rows = []


def _write_parquet(file: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: _arrow_of(values, pa) for name, values in columns.items()})
    shapes = {name: ",".join(map(str, values.shape[1:])) for name, values in columns.items()}
    table = table.replace_schema_metadata(
        {f"shape.{name}": shape for name, shape in shapes.items()}
    )
    rows = len(next(iter(columns.values())))
    row_bytes = sum(values.nbytes for values in columns.values()) // rows
    # pyarrow would take a path with a colon for a URI.
    with file.open("wb") as content:
        # Features hardly compress, and dictionaries and statistics of them only cost. But Parquet
        # has no type of one byte: without a dictionary, each takes four.
        of_bytes = [name for name, values in columns.items() if values.dtype == np.uint8]
        pq.write_table(
            table,
            content,
            compression="none",
            use_dictionary=[f"{name}.list.element" for name in of_bytes] or False,
            write_statistics=["stamp_ns", "index"],
            row_group_size=max(1, ROW_GROUP_BYTES // row_bytes),
        )


def _arrow_of(values: np.ndarray, pa: Any) -> Any:
    flat = pa.array(values.reshape(-1))
    return (
        flat
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    )


def _read_parquet(file: Path) -> Columns:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    columns: Columns = {}
    for name in table.column_names:
        shape = table.schema.metadata[f"shape.{name}".encode()].decode()
        values = table[name].combine_chunks()
        flat = values.flatten() if shape else values
        sizes = [int(size) for size in shape.split(",") if size]
        columns[name] = flat.to_numpy(zero_copy_only=False).reshape(len(table), *sizes)
    return columns


def _read_safetensors(file: Path) -> Columns:
    from safetensors.numpy import load

    return load(file.read_bytes())


def _write_safetensors(file: Path, columns: Columns) -> None:
    from safetensors.numpy import save

    file.write_bytes(save({name: np.ascontiguousarray(values) for name, values in columns.items()}))


class BagShard:
    """Frames as the node's messages, written to a temporary bag whose MCAP file is the shard."""

    def __init__(
        self,
        messages: OutputMessages,
        folder: Path,
        name: str,
        dense: Callable[[CameraResult], np.ndarray] | None,
        basis: Basis | None,
    ):
        self._messages = messages
        self._dense = dense
        self._basis = basis
        self._folder = working_folder(folder / name)
        self._name = name
        self._latched: set[str] = set()
        self._writer = BagWriter(
            self._folder / name, lambda topic: [offered_qos(topic in self._latched)]
        )
        self._writer.__enter__()
        self._layout_id = ""
        self.size_bytes = 0

    def add(
        self, place: dict[str, int], result: FrameResult, extras: dict[str, Any], layout: Layout
    ) -> None:
        messages = list(self._messages.of_frame(Outgoing(result, layout, self._dense, self._basis)))
        # At the head of each shard too, so that a file can be played by itself.
        if layout.layout_id != self._layout_id:
            self._layout_id = layout.layout_id
            messages = [*self._messages.of_layout(layout, self._basis), *messages]
        stamp_ns, frame_id = result.stamp_ns, result.frame_id
        messages += self._messages.of_columns(stamp_ns, frame_id, extras)
        for message in messages:
            if message.latched:
                self._latched.add(message.topic)
            self._writer.write(message.topic, message.type_name, message.data, place["recorded_ns"])
            self.size_bytes += len(message.data)

    def write(self, path: Path) -> None:
        try:
            self._writer.__exit__()
            made = self._folder / self._name / f"{self._name}.mcap"
            with open(made, "rb") as file:
                os.fsync(file.fileno())
            put_in_place(made, path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class ShardPlace:
    """What a new shard needs to know."""

    # The folder that the shard's file will be in, and the file's name without its suffix.
    folder: Path
    name: str
    # What makes columns, and what makes messages, of a frame.
    columns: FrameColumns
    messages: OutputMessages
    # Depth or labels of a camera's image; None without a dense head.
    dense: Callable[[CameraResult], np.ndarray] | None
    # That patch tokens are coefficients of; None if they are not.
    basis: Basis | None


@dataclass(frozen=True)
class FileFormat:
    """One format of `embed`'s files."""

    # The features that it can hold, and those that it holds if none are named.
    features: tuple[str, ...]
    default_features: tuple[str, ...]
    # Begins a shard.
    new_shard: Callable[[ShardPlace], Shard]
    # Whether its files have columns; a bag has messages.
    is_columns: bool = True
    # Of a finished file with columns: its columns, and how to write them again.
    read: Callable[[Path], Columns] | None = None
    write: Callable[[Path, Columns], None] | None = None
    # Whether its files hold their own name.
    holds_name: bool = False
    # Called once when the run is complete, with the folder, the names of all files, and what gives
    # a `with` block the path of one. Returns the name of the file that it wrote there, or "".
    finish: Callable[[Path, Sequence[str], Callable[[str], AbstractContextManager[Path]]], str] = (
        lambda folder, names, local: ""
    )
    # The Python package that writes it, if that is one of those which a user may be without.
    needs: str = ""


FORMATS = {
    "parquet": FileFormat(
        features=FEATURES,
        default_features=DEFAULT_FEATURES,
        new_shard=lambda place: ColumnShard(place.columns, _write_parquet),
        read=_read_parquet,
        write=_write_parquet,
        needs="pyarrow",
    ),
    "safetensors": FileFormat(
        features=FEATURES,
        default_features=DEFAULT_FEATURES,
        new_shard=lambda place: ColumnShard(place.columns, _write_safetensors),
        read=_read_safetensors,
        write=_write_safetensors,
    ),
    # A bag has all of the node's topics by default, but the dense ones, which take long.
    "mcap": FileFormat(
        features=(*FEATURES, DENSE),
        default_features=FEATURES,
        is_columns=False,
        holds_name=True,
        new_shard=lambda place: BagShard(
            messages=place.messages,
            folder=place.folder,
            name=place.name,
            dense=place.dense,
            basis=place.basis,
        ),
        finish=write_metadata,
    ),
}
