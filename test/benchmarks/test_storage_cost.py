"""The page's tables are the committed figures, and the costs follow from them."""

import json

import pytest

from benchmarks.storage_cost import DEFAULTS, FORMS, JPEG, compute_table, costs, storage_table
from test.conftest import ROOT

COMMITTED = json.loads((ROOT / "benchmarks/results/storage_cost.json").read_text())
PAGE = (ROOT / "docs/object_storage.md").read_text()


def test_the_tables_of_the_page_are_the_committed_figures():
    assert storage_table(COMMITTED) in PAGE
    assert compute_table(COMMITTED) in PAGE


def test_the_committed_costs_follow_from_the_measured_figures():
    assert COMMITTED["assumed"] == DEFAULTS
    assert costs(COMMITTED["measured"], DEFAULTS) == COMMITTED["costs"]
    assert COMMITTED["measured"]["bytes_per_image"].keys() == {*FORMS, JPEG}


def test_the_arithmetic():
    measured = {"bytes_per_image": {"x": 1000.0}, "core_s_per_image": {"1": 0.036}}
    assumed = DEFAULTS | {
        "hours": 10.0,
        "cameras": 2,
        "rate_hz": 50.0,
        "storage_usd_per_gb_month": 0.5,
        "cpu_usd_per_core_hour": 2.0,
        "gpu_usd_per_hour": 3.0,
        "gpu_images_per_s": 1000.0,
    }
    found = costs(measured, assumed)
    assert found["images"] == 3_600_000
    assert found["terabytes"] == pytest.approx({"x": 0.0036})
    assert found["usd_per_month"] == pytest.approx({"x": 1.8})
    assert found["core_hours"] == pytest.approx({"1": 36.0})
    assert found["cpu_usd"] == pytest.approx({"1": 72.0})
    assert found["gpu_hours"] == pytest.approx(1.0)
    assert found["gpu_usd"] == pytest.approx(3.0)
    assert costs(measured, assumed | {"gpu_images_per_s": None})["gpu_hours"] is None


def test_sizes_are_in_the_order_that_their_forms_have():
    """The JSON is of the demo's model: 256 patches, and a CLS token and a pose beside them."""
    size = COMMITTED["measured"]["bytes_per_image"]
    patches = 256 * 384
    assert 4 * patches < size["tokens float32"] < 4.1 * patches
    assert 2 * patches < size["tokens float16"] < 2.1 * patches
    assert patches < size["tokens int8"] < 1.1 * patches
    assert size["tokens basis"] < size["tokens int8"] / 4
    assert size["CLS"] < size["embedding"] < size["tokens basis"]
