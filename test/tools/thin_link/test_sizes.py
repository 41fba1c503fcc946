"""What a form of tokens costs, of features and bases that are made here, and the docs' tables."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from test.conftest import DEMO_BAG, ROOT
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from tools.thin_link.forms import TokenForm, recorded_tokens
from tools.thin_link.sizes import cosine, cpu_ms, image_rows, large_pictures, token_rows
from tools.thin_link.tables import link_table, node_table, settings_table, sizes_table
from vit_perception.datasets.learn_basis import learn_basis
from vit_perception.policy.basis_file import save_basis
from vit_perception.policy.features import FeatureFiles


@pytest.fixture
def bases(folders, tmp_path):
    for dims in (32, 8):
        learnt = learn_basis(FeatureFiles(folders / "parquet"), dims)
        save_basis(tmp_path / f"basis_{dims}.safetensors", learnt.basis, "tiny")
    return tmp_path


def test_a_row_has_the_bytes_of_the_wire_and_the_cosine_of_what_comes_back(folders, bases):
    rows = {row["form"]: row for row in token_rows(folders / "parquet", bases, 20.0, (32, 8))}
    assert list(rows) == ["float32", "float16", "int8", "basis_32", "basis_8"]
    assert rows["float32"]["cosine_mean"] == 1.0
    assert rows["int8"]["cosine_worst_percent"] > 0.999
    assert rows["basis_8"]["cosine_mean"] < rows["basis_32"]["cosine_mean"] < 1
    for row in rows.values():
        assert row["cosine_worst_percent"] <= row["cosine_mean"]
        assert row["encode_ms_camera"] > 0
    layout, tokens = recorded_tokens(folders / "parquet", 1)
    count, width = tokens[0].shape
    assert (count, width) == (layout.token_count, layout.width)
    assert rows["int8"]["frame_kB"] == round(count * (width + 4) / 1e3, 1)
    assert rows["float32"]["MB_minute"] == round(60 * 20 * count * width * 4 / 1e6, 1)


def test_messages_are_the_latched_ones_then_frames(folders, bases):
    layout, tokens = recorded_tokens(folders / "parquet", 2)
    form = TokenForm.of("basis_8", layout, bases / "basis_8.safetensors")
    latched, *frames = form.messages(iter(tokens))
    assert list(latched) == ["/vit_encoder/layout", "/vit_encoder/basis"] and len(frames) == 2
    kind, fields = frames[1]["/vit_encoder/tokens"]
    assert kind == "sensor_msgs/msg/Image"
    restored = form.decode(SimpleNamespace(**fields))
    exact = [g for g in layout.groups if g.kind != "patch"]
    assert exact
    for group in exact:
        rows = slice(group.start, group.stop)
        np.testing.assert_array_equal(restored[rows], tokens[1][rows])


def test_images_stand_beside_them():
    recorded, large = image_rows(DEMO_BAG, 20.0)
    assert recorded["form"] == "JPEG 320x240, as recorded"
    assert large["frame_kB"] > recorded["frame_kB"] > 10
    assert all(picture[:2] == b"\xff\xd8" for picture in large_pictures())


def test_cosine_and_time_by_hand():
    assert cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])) == pytest.approx([0.96])
    assert cpu_ms(lambda count: sum(range(count)), [100_000, 200_000]) > 0


@pytest.mark.parametrize("name", ["sizes", "link", "node", "settings"])
def test_the_tables_of_the_docs_are_those_of_the_results(name):
    """`python -m tools.thin_link tables` prints what has to stand there."""
    results = ROOT / "benchmarks/results"
    made = {
        "sizes": (sizes_table, "thin_tokens.json"),
        "link": (link_table, "thin_link.json"),
        "node": (node_table, "thin_link.json"),
        "settings": (settings_table, "thin_link.json"),
    }
    table, file = made[name]
    text = (ROOT / "docs/thin_link.md").read_text()
    assert table(json.loads((results / file).read_text())) in text
