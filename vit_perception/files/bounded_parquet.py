"""Read other people's Parquet files in bounded memory: page headers are checked before unpacking.

The footer's sums may be wrong, and pyarrow allocates what each page header says.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import open_regular

MOST_FOOTER_BYTES = 8 << 20
MOST_PAGE_BYTES = 512 << 20
# A page above this size may unpack to MOST_RATIO times its size: images hardly compress, and a
# page that compressed well may be of a few kB.
MOST_UNPACKED_BYTES = 64 << 20
MOST_RATIO = 4
# Rows may share one value of a dictionary: what all rows unpack to, in bytes and in multiples of
# the column's size on disk.
MOST_SHARED_BYTES = 1 << 30
MOST_SHARED_RATIO = 1000
_DICTIONARY_PAGE = 2
MOST_VALUES = 1 << 26  # of one column in one row group
MOST_PAGES = 1 << 20
BATCH_ROWS = 16
BATCH_BYTES = 64 << 20
_HEADER_BYTES = 1 << 16


class BoundedParquet:
    """One open Parquet file; use it in a `with` block.

    Raises:
        InvalidValue: it is not a Parquet file, or unpacks to too much.
    """

    def __init__(self, path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        self._file = open_regular(path)
        try:
            self._check_footer()
            self._file.seek(0)
            # Streamed: otherwise a row group's whole column is read.
            self._parquet = pq.ParquetFile(
                pa.PythonFile(self._file, mode="r"),
                buffer_size=1 << 20,
                pre_buffer=False,
                thrift_string_size_limit=MOST_FOOTER_BYTES,
                thrift_container_size_limit=1 << 17,
            )
            self.schema = self._parquet.schema_arrow
            if len(set(self.schema.names)) < len(self.schema.names):
                raise InvalidValue(f"{path} has two columns of one name; accepted: a name a column")
        except InvalidValue:
            self._file.close()
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            self._file.close()
            raise InvalidValue(f"{path} is no Parquet file that can be read: {error}") from error
        self.rows: int = self._parquet.metadata.num_rows

    def __enter__(self) -> "BoundedParquet":
        return self

    def __exit__(self, *_: Any) -> None:
        self._parquet.close()
        self._file.close()

    def batches(self, names: list[str]) -> Iterator[Any]:
        """Yield record batches of at most 16 rows. Raises InvalidValue as the class does."""
        try:
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, self._largest_page(set(names)))))
            yield from self._parquet.iter_batches(rows, columns=names, use_threads=False)
        except InvalidValue:
            raise
        except Exception as error:  # of pyarrow, struct, page headers, names that are not UTF-8
            raise InvalidValue(f"{self._path} cannot be read: {error}") from error

    def _check_footer(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - 8))
        tail = self._file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length > min(MOST_FOOTER_BYTES, size):
            raise InvalidValue(
                f"{self._path} is no Parquet file, or has a footer of {length} bytes; accepted: "
                f"Parquet with a footer of at most {MOST_FOOTER_BYTES} bytes"
            )

    def _largest_page(self, names: set[str]) -> int:
        """Return the unpacked size in bytes of the largest page of these columns."""
        metadata = self._parquet.metadata
        largest = 0
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                path = column.path_in_schema
                if any(path == name or path.startswith(f"{name}.") for name in names):
                    largest = max(largest, self._check_pages(column))
        return largest

    def _check_pages(self, column: Any) -> int:
        starts = [column.data_page_offset]
        if column.has_dictionary_page and column.dictionary_page_offset:
            starts.append(column.dictionary_page_offset)
        at = min(starts)
        end = at + column.total_compressed_size
        largest = values = pages = 0
        entry_bytes = 0.0  # of a dictionary's value, on average
        while at < end:
            self._file.seek(at)
            header, taken = _struct(self._file.read(_HEADER_BYTES))
            inner = next((header[k] for k in (5, 8) if isinstance(header.get(k), dict)), {})
            unpacked, packed, count = (
                n if isinstance(n, int) else -1
                for n in (header.get(2), header.get(3), inner.get(1, 0))
            )
            values += count
            pages += 1
            allowed = min(MOST_PAGE_BYTES, max(MOST_UNPACKED_BYTES, MOST_RATIO * packed))
            if not (0 <= packed <= MOST_PAGE_BYTES and 0 <= unpacked <= allowed):
                raise self._too_much(
                    column,
                    f"a page that unpacks from {packed} to {unpacked} bytes",
                    f"at most {allowed} bytes",
                )
            if not 0 <= values <= MOST_VALUES or pages > MOST_PAGES:
                raise self._too_much(
                    column,
                    f"{values} values in {pages} pages of one row group",
                    f"at most {MOST_VALUES} values",
                )
            if header.get(1) == _DICTIONARY_PAGE:
                dictionary = header.get(7)
                entries = dictionary.get(1) if isinstance(dictionary, dict) else None
                entry_bytes = max(
                    entry_bytes, unpacked / max(1, entries if isinstance(entries, int) else 1)
                )
            largest = max(largest, unpacked)
            at += taken + packed
        shared = values * entry_bytes
        if shared > max(MOST_SHARED_BYTES, MOST_SHARED_RATIO * column.total_compressed_size):
            raise self._too_much(
                column,
                f"{values} rows that share values of a dictionary, {shared:.3g} bytes in all",
                f"{MOST_SHARED_RATIO} times what it takes on disk, or {MOST_SHARED_BYTES} bytes",
            )
        return largest

    def _too_much(self, column: Any, what: str, accepted: str) -> InvalidValue:
        return InvalidValue(
            f"{self._path}: column {shown(column.path_in_schema)} has {what}; accepted: {accepted}"
        )


def _struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the numbers and structs of a Thrift compact struct by field id, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(data, at)
        fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _zigzag(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind == 12 and depth < 4:
        return _struct(data, at, depth + 1)
    raise IndexError(f"a page header of an unknown form (type {kind})")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise IndexError("a page header with a number that never ends")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
