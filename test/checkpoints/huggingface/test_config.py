"""preprocessor_config.json, config.json and README.md as they are found on the hub, and what is
refused.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from test.checkpoints.huggingface.models import WITH_MLP
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import read_json
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    labels_of,
    license_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
VIT = {
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": {"height": 224, "width": 224},
}
DINOV2 = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_resize": True,
    **IMAGENET,
    "rescale_factor": 0.00392156862745098,
    "resample": 3,
    "size": {"shortest_edge": 256},
}


def preprocessing(folder, fields, interpolation="bicubic"):
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    return preprocessing_of(folder, interpolation)


def test_vit_is_stretched(tmp_path):
    rule, mean, std = preprocessing(tmp_path, VIT)
    assert rule == ResizeRule((224, 224), fit="stretch", interpolation="bilinear")
    assert mean == std == (0.5, 0.5, 0.5)


def test_dinov2_is_cropped(tmp_path):
    rule, mean, std = preprocessing(tmp_path, DINOV2)
    assert rule == ResizeRule(
        network_size_px=(224, 224), fit="crop", resize_shortest_edge_px=256, interpolation="bicubic"
    )
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_old_files_have_one_number_and_no_resample(tmp_path):
    """google/vit-base-patch16-224 was first published with size 224, which transformers reads as a
    square.
    """
    rule, _, _ = preprocessing(tmp_path, {"size": 224, **IMAGENET}, interpolation="bilinear")
    assert rule == ResizeRule((224, 224), fit="stretch", interpolation="bilinear")
    rule, _, _ = preprocessing(
        tmp_path, {"size": 256, "crop_size": 224, "do_center_crop": True, **IMAGENET}
    )
    assert rule == ResizeRule(
        network_size_px=(224, 224), fit="crop", resize_shortest_edge_px=256, interpolation="bicubic"
    )


def test_a_crop_out_of_a_stretched_square(tmp_path):
    """Height and width before a crop, or one number in a file of DeiT's; equal to the crop, it is
    stretched alone.
    """
    fields = {**IMAGENET, "do_center_crop": True, "crop_size": 224, "resample": 3}
    expected = ResizeRule((224, 224), "stretch_crop", 256)
    assert preprocessing(tmp_path, {**fields, "size": {"height": 256, "width": 256}})[0] == expected
    deit = {**fields, "size": 256, "feature_extractor_type": "DeiTFeatureExtractor"}
    assert preprocessing(tmp_path, deit)[0] == expected
    assert preprocessing(tmp_path, {**fields, "size": {"height": 224, "width": 224}})[
        0
    ] == ResizeRule((224, 224))


def test_no_normalisation(tmp_path):
    _, mean, std = preprocessing(tmp_path, {"size": 32, "do_normalize": False})
    assert (mean, std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"do_resize": False}, "do_resize is false; accepted: true"),
        ({"resample": 5}, "resample is 5; accepted: .*2: 'bilinear'"),
        (
            {"size": {"shortest_edge": 256}},
            "accepted: height and width, or shortest_edge with a crop",
        ),
        (
            {"do_center_crop": True, "crop_size": 224, "size": {"height": 256, "width": 288}},
            "size is .*; accepted: a square",
        ),
        (
            {"do_center_crop": True, "crop_size": 256},
            "resize_shortest_edge_px is .224,.; accepted: 1 integer from 256",
        ),
        ({"size": {"height": 0, "width": 224}}, "size is .*; accepted: a number of pixels"),
        ({"size": "224"}, "size is '224'"),
        ({"rescale_factor": 0.5}, "rescale_factor 0.5; accepted: pixels scaled by 1/255"),
        ({"do_rescale": False}, "do_rescale is False"),
        ({"image_mean": None}, "image_mean is None; accepted: 3 numbers"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        preprocessing(tmp_path, {**VIT, **changes})
    assert "preprocessor_config.json" in str(error.value)


@pytest.mark.parametrize("name", ["size", "image_mean", "image_std"])
def test_a_missing_field_is_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json has no '{name}'"):
        preprocessing(tmp_path, {key: value for key, value in VIT.items() if key != name})


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(
        CheckpointError,
        match="no file preprocessor_config.json; accepted: one with size, image_mean",
    ):
        preprocessing_of(tmp_path, "bicubic")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json: .*accepted: JSON with sizes"):
        read_json(tmp_path / "config.json", "sizes")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list; accepted: a JSON object"):
        read_json(tmp_path / "config.json", "sizes")


def test_sizes():
    assert size_px({"s": 14}, "s") == (14, 14)
    assert size_px({"s": [32, 64]}, "s") == (32, 64)
    with pytest.raises(ValueError, match="patch_size is .*; accepted: a square"):
        side_px({"patch_size": [16, 8]}, "patch_size")
    with pytest.raises(ValueError, match="s is True"):
        size_px({"s": True}, "s")


def test_labels_stand_in_order_of_their_index():
    assert labels_of(
        {"id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(10)}}}
    ) == tuple("abcdefghijk")
    assert labels_of({"num_labels": 3}) == ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(ValueError, match=r"id2label has the indices \[0, 2\]; accepted: 0 to 1"):
        labels_of({"id2label": {"0": "a", "2": "b"}})


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="hidden_act is 'relu'; accepted: gelu, quick_gelu"):
        activation_of({"hidden_act": "relu"})


def test_the_licence_comes_from_the_front_matter(tmp_path):
    assert license_of(tmp_path) == ""
    (tmp_path / "README.md").write_text(
        "---\ntags:\n- vision\nlicense: 'apache-2.0'\n---\nlicense: none\n"
    )
    assert license_of(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("# Model\nlicense: mit\n")
    assert license_of(tmp_path) == ""


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"qkv_bias": "no"}, "qkv_bias is 'no'; accepted: true or false"),
        ({"problem_type": []}, r"problem_type is \[\]; accepted: none, single_label"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None; accepted: a number between 0 and 1"),
        ({"id2label": []}, r"id2label is \[\]; accepted: an object"),
        ({"num_labels": 10**9, "id2label": None}, "num_labels is 1000000000; accepted: 1 to"),
        ({"hidden_act": ["gelu"]}, r"hidden_act is \['gelu'\]"),
        ({"num_hidden_layers": 10**9}, "depth of the model is 1000000000; accepted: at most 1000"),
    ],
)
def test_a_damaged_config_is_refused_by_the_field(tmp_path, fields, message):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "vit",
                **WITH_MLP,
                "architectures": ["ViTForImageClassification"],
                "num_labels": 3,
                **fields,
            }
        )
    )
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT))
    save_file({"classifier.weight": torch.zeros(3, 32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(str(tmp_path))
    assert "config.json" in str(error.value)


def test_labels_of_a_dense_head_that_are_no_object_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dpt", "id2label": []}))
    save_file({"head.head.1.running_mean": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"config.json: id2label is \[\]"):
        load_checkpoint(str(tmp_path))
