"""The tool behind `make parity`: what counts as a fault, the table, and the comparison itself on a
model of its own.
"""

import math

import numpy as np
import pytest
import torch

from tools.checkpoint_parity.report import BEGIN, END, read_json, table, write_into, write_json
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise
from vit_perception.checkpoints.native import config_json, preprocessor_json
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer


@pytest.mark.parametrize(
    "fields, faults",
    [
        ({"tokens": 1e-4, "preprocessing": 1.0}, 0),
        ({"tokens": 2e-4}, 1),
        ({"logits": math.nan}, 1),
        ({"tokens": 1.0, "logits": 1.0, "preprocessing": 1.1}, 3),
        ({}, 1),
        ({"preprocessing": 0.1}, 1),
    ],
)
def test_what_is_out_of_bounds_or_not_compared_is_a_fault(fields, faults):
    assert len(Row("timm", "vit", "timm 1", **fields).faults()) == faults


def test_rows_survive_the_file_and_stand_in_the_document_between_its_markers(tmp_path):
    rows = [Row("timm", "vit_tiny", "timm 1", tokens=2.5e-06, load_s=0.5, note="one block")]
    write_json(tmp_path / "rows.json", {"timm": rows})
    assert (
        read_json(tmp_path / "rows.json") == {"timm": rows}
        and read_json(tmp_path / "none.json") == {}
    )
    document = tmp_path / "doc.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(document, table(rows))
    text = document.read_text()
    assert "| timm | vit_tiny | timm 1 | 2.5e-06 | - | - | 0.50 / - | one block |" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    with pytest.raises(ValueError, match="lacks"):
        write_into(tmp_path / "rows.json", "")


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    config = VARIANTS["test"]
    model = randomise(VisionTransformer(config))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(config_json(config, ()))
    rule = ResizeRule(config.image_size_px)
    (tmp_path / "preprocessor_config.json").write_text(
        preprocessor_json(rule, (0.5,) * 3, (0.5,) * 3)
    )
    return tmp_path, model


@pytest.mark.parametrize("off", [0.0, 0.25])
def test_a_difference_is_measured_as_large_as_it_is(checkpoint, off):
    folder, model = checkpoint

    def run(images):
        with torch.inference_mode():
            return {"cls_token": model(torch.from_numpy(images)).cls_token.numpy() + off}

    side = model.config.image_size_px[0]
    row = compare(
        "vit_perception", "test", folder, Origin("itself", run, lambda p: grey(p, side)), warm=False
    )
    assert row.tokens == pytest.approx(off, abs=1e-6) and row.logits is None
    assert row.preprocessing > 1  # a grey picture is not the picture


def grey(picture, side: int) -> np.ndarray:
    return np.zeros((3, side, side), np.float32)
