"""What makes scores of logits: one logit, several labels, measured values, in every family that has
heads.
"""

import json

import numpy as np
import pytest
from safetensors.torch import save_file

from test.checkpoints.test_sources import CONFIG, folder, tiny_weights, write_json  # noqa: F401
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.native import config_json, preprocessor_json
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.heads.classification import (
    Head,
    kind_of,
    load_head,
    save_head,
    scores_of,
    sigmoid,
)
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import ViTConfig


def scores(folder, classes, **fields):
    save_file(tiny_weights(classes), folder / "model.safetensors")
    write_json(folder, "config.json", {**CONFIG, "num_labels": classes, **fields})
    return load_checkpoint(str(folder)).card.scores


@pytest.mark.parametrize(
    "classes, fields, expected",
    [
        (3, {}, "softmax"),
        (1, {}, "sigmoid"),
        (1, {"problem_type": "single_label_classification"}, "sigmoid"),
        (3, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (3, {"function_to_apply": "sigmoid"}, "sigmoid"),
        (
            3,
            {"problem_type": "single_label_classification", "function_to_apply": "sigmoid"},
            "softmax",
        ),
    ],
)
def test_scores_by_what_the_config_says(folder, classes, fields, expected):
    assert scores(folder, classes, **fields) == expected


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("fields", [{"problem_type": "regression"}, {"function_to_apply": "none"}])
def test_a_head_that_measures_is_refused_by_name(folder, classes, fields):
    name = next(iter(fields))
    with pytest.raises(
        CheckpointError,
        match=f"{name} is '{fields[name]}': the head measures.* accepted: single_label_",
    ):
        scores(folder, classes, **fields)


def test_without_its_head_a_model_of_regression_loads(folder):
    write_json(folder, "config.json", {**CONFIG, "problem_type": "regression"})
    assert load_checkpoint(str(folder)).card.labels == ()


def test_one_logit_of_this_packages_own_folder(tmp_path):
    config = ViTConfig(
        width=8,
        depth=1,
        heads=2,
        mlp_width=16,
        patch_size_px=8,
        image_size_px=(16, 16),
        head="linear",
        classes=1,
    )
    (tmp_path / "config.json").write_text(config_json(config, ("defect",), "softmax"))
    (tmp_path / "preprocessor_config.json").write_text(
        preprocessor_json(ResizeRule((16, 16)), (0.5,) * 3, (0.5,) * 3)
    )
    save_file(VisionTransformer(config).state_dict(), tmp_path / "model.safetensors")
    assert load_checkpoint(str(tmp_path)).card.scores == "sigmoid"


def test_one_logit_of_a_fitted_head(tmp_path):
    head = Head(("defect",), np.array([[2.0, 0.0]]), np.array([-1.0]))
    assert head.kind == "sigmoid"
    save_head(tmp_path, head)
    loaded = load_head(tmp_path)
    for value in (-3.0, 0.0, 2.0):
        expected = 1 / (1 + np.exp(-(2 * value - 1)))
        assert loaded.scores(np.array([value, 9.0], np.float32), np.zeros((1, 2))) == pytest.approx(
            [expected], rel=1e-6
        )


def test_scores_of_one_class_are_not_all_1():
    assert (
        kind_of(1, "softmax") == "sigmoid"
        and kind_of(2, "softmax") == "softmax"
        and kind_of(2, "sigmoid") == "sigmoid"
    )
    assert np.array_equal(scores_of(np.array([-1.0]), "sigmoid"), sigmoid(np.array([-1.0])))


def test_a_head_of_the_former_format_is_refused_and_can_be_replaced(tmp_path):
    from vit_perception.training.probe import require_head_folder

    save_head(
        tmp_path,
        Head(labels=("a", "b"), weight=np.ones((2, 2)), bias=np.zeros(2), encoder_sha256="ab" * 32),
    )
    fields = json.loads((tmp_path / "labels.json").read_text())
    assert fields.pop("format") == 2
    (tmp_path / "labels.json").write_text(json.dumps(fields))
    with pytest.raises(
        ValueError, match="labels.json is of format 1, .* fit it again with `vit-perception fit`"
    ):
        load_head(tmp_path)
    require_head_folder(tmp_path)


@pytest.mark.parametrize("label", ["x" * 1001, "a\0b", "\ud800"])
def test_labels_that_no_message_can_carry(folder, label):
    with pytest.raises(CheckpointError, match="a label of model 'tiny-vit' is"):
        scores(folder, 2, id2label={"0": "cup", "1": label})
    with pytest.raises(ValueError, match="a label of a head is"):
        Head(("a", label), np.ones((2, 2)), np.zeros(2))


def test_the_digest_of_an_encoder_tells_what_no_tensor_tells(folder):
    """Activation, heads and epsilon change the features and not the weights' file."""
    from vit_perception.engines.reference import encoder_digest

    digests = set()
    for fields in (
        {},
        {"hidden_act": "quick_gelu"},
        {"num_attention_heads": 4},
        {"layer_norm_eps": 1e-5},
    ):
        write_json(folder, "config.json", {**CONFIG, **fields})
        loaded = load_checkpoint(str(folder))
        digests.add(encoder_digest(loaded))
        assert encoder_digest(loaded) == encoder_digest(loaded, 0)
    write_json(folder, "config.json", CONFIG)
    write_json(
        folder,
        "preprocessor_config.json",
        {"size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3},
    )
    digests.add(encoder_digest(load_checkpoint(str(folder))))
    assert len(digests) == 5
    assert all(len(digest) == 64 for digest in digests)
