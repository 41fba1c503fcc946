"""Parquet files of others: what unpacks to too much, and damage."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.datasets.lerobot.hostile_sets import episode_file, pipeline  # noqa: F401 - a fixture
from test.datasets.lerobot.test_dataset import data_set
from vit_perception.files import bounded_parquet
from vit_perception.files.bounded_parquet import BoundedParquet
from vit_perception.files.errors import UserError


def unpacking_file(path, kind):
    if kind == "one cell":
        table = pa.table({"x": pa.array([bytes(3 << 20)])})
    elif kind == "list of one row":
        table = pa.table({"x": pa.array([np.zeros(1_100_000, np.int8)], pa.list_(pa.int8()))})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize("kind", ["one cell", "list of one row"])
def test_a_row_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(
        bounded_parquet, "MOST_UNPACKED_BYTES", 2 << 20
    )  # in small: gigabytes take long to write
    monkeypatch.setattr(bounded_parquet, "MOST_VALUES", 1 << 20)
    unpacking_file(tmp_path / "a.parquet", kind)
    before = pa.total_allocated_bytes()
    with (
        BoundedParquet(tmp_path / "a.parquet") as file,
        pytest.raises(UserError, match="accepted: at most"),
    ):
        next(file.batches(["x"]))
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_rows_that_share_one_large_cell_are_refused_before_they_are_unpacked(tmp_path):
    """Regression: 2.6 kB on disk, one cell of 60 MB in 100,000 rows: memory held, and it took
    hours.
    """
    cell = pa.DictionaryArray.from_arrays(
        pa.array([0] * 3000, pa.int32()), pa.array([bytes(1 << 20)])
    )
    pq.write_table(
        pa.table({"x": cell}), tmp_path / "a.parquet", compression="zstd", store_schema=False
    )
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 16
    with (
        BoundedParquet(tmp_path / "a.parquet") as file,
        pytest.raises(UserError, match="3000 rows that share values"),
    ):
        next(file.batches(["x"]))


def test_rows_may_share_a_small_cell(tmp_path):
    pq.write_table(pa.table({"x": pa.array([bytes(1000)] * 3000)}), tmp_path / "a.parquet")
    with BoundedParquet(tmp_path / "a.parquet") as file:
        assert sum(len(batch) for batch in file.batches(["x"])) == 3000


def test_pictures_that_do_not_shrink_may_fill_a_page(tmp_path):
    data = np.random.default_rng(0).bytes(3 << 20)
    pq.write_table(
        pa.table({"x": pa.array([data] * 30)}),
        tmp_path / "a.parquet",
        use_dictionary=False,
        compression="none",
        data_page_size=1 << 30,
    )
    with BoundedParquet(tmp_path / "a.parquet") as file:
        batches = list(file.batches(["x"]))
    assert sum(len(b) for b in batches) == 30 and max(len(b) for b in batches) <= 16


def test_damaged_parquet_is_named_and_ends_nothing_else(tmp_path, pipeline):
    whole = episode_file(data_set(tmp_path / "set", "v2.1", False), 0).read_bytes()
    rng = random.Random(5)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "a.parquet"
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            with BoundedParquet(path) as file:
                for batch in file.batches(list(file.schema.names)):
                    batch.num_rows
        except UserError as error:
            assert "a.parquet" in str(error)
