"""The folder that a fine-tuning run writes: what goes out comes back, and what does not fit is
named.
"""

import json
from dataclasses import replace

import pytest
import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.families import family_of
from vit_perception.checkpoints.native import FAMILY
from vit_perception.checkpoints.sources import load_checkpoint, open_checkpoint
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS
from vit_perception.training.checkpoint_writer import write_description, write_weights
from vit_perception.training.start import Start, fresh

RULE = ResizeRule(
    network_size_px=(48, 64), fit="pad", interpolation="bilinear", pad_value_rgb=(1, 2, 3)
)


def write(folder, **changes):
    config = replace(VARIANTS["test"], pooling="mean", head="linear", classes=3, **changes)
    start = Start(
        fresh(config, 0),
        ("can", "cup", "töpfe"),
        RULE,
        (0.1, 0.2, 0.3),
        (0.4, 0.5, 0.6),
        "demo",
        "ab",
        "apache-2.0",
        "new",
    )
    write_description(folder, start)
    write_weights(folder, start)
    return start


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "swiglu", "position_interpolation": "bilinear"},
        {"cls_token": False, "rope_theta": 100.0, "position_embedding": "none"},
        {"norm_pooled": True, "qkv_bias": False},
    ],
)
def test_what_goes_out_comes_back(tmp_path, changes):
    start = write(tmp_path, **changes)
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.model.config == start.model.config
    card = loaded.card
    assert (card.family, card.license, card.scores) == ("vit_perception", "apache-2.0", "softmax")
    assert (card.rule, card.mean, card.std, card.labels) == (
        RULE,
        start.mean,
        start.std,
        start.labels,
    )
    images = torch.rand(1, 3, 48, 64)
    assert torch.equal(loaded.model(images).logits, start.model.eval()(images).logits)
    assert family_of(open_checkpoint(str(tmp_path))) is FAMILY


@pytest.mark.parametrize(
    "file, path, value, said",
    [
        ("config.json", ["format"], 2, "format is 2; accepted: 1"),
        (
            "config.json",
            ["model", "width"],
            33,
            "heads of the model is 4; accepted: a divisor of the width 33",
        ),
        ("config.json", ["model", "wings"], 2, "model has the fields wings; accepted: "),
        ("config.json", ["model"], None, "model is None"),
        ("config.json", ["labels"], ["can"], r"labels is \['can'\]; accepted: a list of 3 names"),
        ("config.json", ["scores"], "votes", "scores is 'votes'"),
        ("preprocessor_config.json", ["rule", "fit"], "squeeze", "fit is 'squeeze'"),
        (
            "preprocessor_config.json",
            ["image_std"],
            [1, 2],
            r"image_std is \[1, 2\]; accepted: three numbers",
        ),
        (
            "preprocessor_config.json",
            ["rule"],
            {},
            "rule: .*network_size_px.*; accepted: the fields of ResizeRule",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(tmp_path, file, path, value, said):
    write(tmp_path)
    fields = json.loads((tmp_path / file).read_text())
    place = fields
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (tmp_path / file).write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=f"{file}: .*{said}"):
        load_checkpoint(str(tmp_path))


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="no file preprocessor_config.json"):
        load_checkpoint(str(tmp_path))


def test_weights_of_another_shape_are_printed(tmp_path):
    write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields["model"]["depth"] = 4
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="blocks.3.mlp.up.weight"):
        load_checkpoint(str(tmp_path))
