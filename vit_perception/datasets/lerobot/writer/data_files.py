"""The data files of a LeRobot data set: whole episodes, up to a size each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_perception.datasets.lerobot import layout
from vit_perception.datasets.lerobot.writer.tables import Written, column_of_frames, schema_of

_MOST_BYTES = layout.MOST_DATA_FILE_MB << 20
# A page with tokens or pictures of many frames would be too large for some readers.
_ROW_GROUP_BYTES = 4 << 20


class DataFiles:
    """Writes episodes, each in some blocks of frames."""

    def __init__(self, out: Path, features: Mapping[str, Written]):
        self._out = out
        self._features = {k: f for k, f in features.items() if f.dtype != "video"}
        self._schema = schema_of(features)
        self._number = -1
        self._bytes = 0
        self._writer: Any = None

    def begin(self, expected_bytes: int) -> tuple[int, int]:
        """Begin an episode; return the numbers of the chunk and the file that it will be in."""
        import pyarrow.parquet as pq

        if self._writer is None or self._bytes + expected_bytes > _MOST_BYTES:
            self.close()
            self._number += 1
            chunk, file = divmod(self._number, layout.FILES_IN_A_CHUNK)
            path = self._out / layout.DATA.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, self._schema, compression="snappy")
            self._bytes = 0
        return divmod(self._number, layout.FILES_IN_A_CHUNK)

    def add(self, values: Mapping[str, Sequence[Any]]) -> None:
        """Write some frames of the episode that was begun."""
        import pyarrow as pa

        columns = [column_of_frames(f, values[key]) for key, f in self._features.items()]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        rows = max(1, _ROW_GROUP_BYTES * table.num_rows // max(1, table.nbytes))
        self._writer.write_table(table, row_group_size=rows)
        self._bytes += table.nbytes

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
