"""The files of `embed`: what they take on disk, and that they come back as they were."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from vit_perception.datasets.shards import FORMATS

ROWS = 40


@pytest.mark.parametrize("file_format", ["parquet", "safetensors"])
@pytest.mark.parametrize(("dtype", "item_bytes"), [("uint8", 1), ("float16", 2), ("float32", 4)])
def test_a_number_takes_the_bytes_of_its_form(tmp_path, file_format, dtype, item_bytes):
    """int8 and basis took four bytes a number in Parquet: as much as float32."""
    values = np.random.default_rng(0).integers(0, 256, (ROWS, 100, 388)).astype(dtype)
    columns = {"stamp_ns": np.arange(ROWS), "index": np.arange(ROWS), "tokens": values}
    path = tmp_path / "file"
    FORMATS[file_format].write(path, columns)
    assert path.stat().st_size < 1.1 * item_bytes * values.size
    read = FORMATS[file_format].read(path)
    np.testing.assert_array_equal(read["tokens"], values)
    assert read["tokens"].dtype == dtype
    if file_format == "parquet":
        assert pq.read_metadata(path).num_row_groups == -(-ROWS * values[0].nbytes // (4 << 20))
