"""multi_task_dit: CLIP's tower before its final norm, and images as LeRobot prepares them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from test.checkpoints.huggingface.models import LIMIT, largest_difference, randomised
from test.checkpoints.policies.checks import check_refused, prepared, random_pixels
from test.checkpoints.policies.policy_folders import NORMALIZER, lerobot_config, write
from test.checkpoints.policies.policy_images import prepared_by_multi_task_dit
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

SIDE = 32
TOWER = "observation_encoder.vision_encoder.model."
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CAMERAS = {"observation.images.top": IMAGENET, "observation.images.wrist": IMAGENET}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}


def clip(**vision) -> CLIPVisionModel:
    return randomised(CLIPVisionModel, CLIPVisionConfig(**{**VISION, **vision}))


def config_of(shape=(3, 48, 80), cameras=CAMERAS, **fields) -> dict:
    images = {name: {"type": "VISUAL", "shape": list(shape)} for name in cameras}
    config = lerobot_config(
        "multi_task_dit",
        normalization_mapping={"VISUAL": "MEAN_STD", "STATE": "MIN_MAX"},
        image_crop_shape=[SIDE, SIDE],
        vision_encoder_name="openai/clip-vit-base-patch16",
        **fields,
    )
    return {**config, "input_features": images}


def write_policy(folder, model=None, config=None, below=TOWER, statistics=CAMERAS):
    """A policy as LeRobot writes it, with a text tower of the same names."""
    tensors = {f"{below}{n}": t.clone() for n, t in (model or clip()).state_dict().items()}
    text = "observation_encoder.text_encoder.text_encoder.encoder.layers.0.mlp.fc1.weight"
    tensors |= {text: torch.zeros(2, 2), "noise_predictor.x.weight": torch.zeros(2)}
    write(folder, config or config_of(), tensors)
    held = {
        f"{camera}.{name}": torch.tensor(numbers)[:, None, None]
        for camera, numbers_of in statistics.items()
        for name, numbers in numbers_of.items()
    }
    save_file({**load_file(folder / NORMALIZER), **held}, folder / NORMALIZER)
    return folder


@pytest.mark.parametrize("below", [TOWER, f"{TOWER}vision_model."])
def test_tokens_are_those_that_the_policy_takes(below, tmp_path):
    theirs = clip()
    loaded = load_checkpoint(str(write_policy(tmp_path, theirs, below=below)))
    images = torch.randn(2, 3, SIDE, SIDE)
    tokens = theirs(images).last_hidden_state
    ours = loaded.model(images)
    assert loaded.card.family == "multi_task_dit"
    assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
    assert largest_difference(ours.patch_tokens, tokens[:, 1:]) <= LIMIT
    assert (tokens[:, 0] - theirs(images).pooler_output).abs().max() > 0.1
    assert {name.removeprefix(below) for name in loaded.unused} == {
        "post_layernorm.weight",
        "post_layernorm.bias",
    }


@pytest.mark.parametrize(
    "shape, fields",
    [
        ((3, 48, 81), {}),
        ((3, 33, 45), {}),
        ((3, 48, 80), {"image_resize_shape": [37, 37]}),
        ((3, 48, 80), {"image_resize_shape": [32, 32]}),
        ((3, 48, 80), {"image_resize_shape": [32, 32], "image_crop_shape": None}),
        # A cut that does not fit is left out.
        ((3, 32, 32), {"image_crop_shape": [40, 40]}),
        ((3, 48, 80), {"image_resize_shape": [32, 32], "image_crop_shape": [40, 40]}),
    ],
)
def test_images_are_prepared_as_the_policy_does_it(shape, fields, tmp_path):
    config = {**config_of(shape), **fields}
    loaded = load_checkpoint(str(write_policy(tmp_path, config=config)))
    pixels = random_pixels(shape[1:])
    ours = prepared(loaded.card, pixels)
    crop = config["image_crop_shape"]
    wanted = prepared_by_multi_task_dit(pixels, config.get("image_resize_shape"), crop)
    assert (ours - wanted).abs().max() <= 1.001
    assert (ours - wanted).abs().mean() <= 0.5
    if not config.get("image_resize_shape"):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("kind", ["MEAN_STD", "MIN_MAX", "IDENTITY"])
def test_pixels_are_normalised_by_the_statistics_of_the_data(kind, tmp_path):
    numbers = {**IMAGENET, "min": [0.0, 0.1, 0.2], "max": [1.0, 0.9, 0.7]}
    config = config_of()
    config["normalization_mapping"]["VISUAL"] = kind
    statistics = dict.fromkeys(CAMERAS, numbers)
    card = load_checkpoint(str(write_policy(tmp_path, config=config, statistics=statistics))).card
    value = np.array([0.25, 0.5, 0.75])
    s = {name: np.array(held) for name, held in numbers.items()}
    wanted = {
        "MEAN_STD": (value - s["mean"]) / (s["std"] + 1e-8),
        "MIN_MAX": 2 * (value - s["min"]) / (s["max"] - s["min"]) - 1,
        "IDENTITY": value,
    }[kind]
    np.testing.assert_allclose(
        (value - np.array(card.mean)) / np.array(card.std), wanted, atol=1e-6
    )


OTHER = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
WRONG = {
    "cameras differ": (
        {},
        {**CAMERAS, "observation.images.wrist": OTHER},
        "wrist is normalised by .*accepted: one normalisation for all cameras.*imagenet",
    ),
    "no statistics": ({}, {}, "observation.images.top.mean is missing; accepted: three numbers"),
    "a tower each": (
        {"use_separate_rgb_encoder_per_camera": True},
        CAMERAS,
        "an encoder of its own; accepted: false, or the tower of one camera alone",
    ),
    "another CLIP": (
        {"vision_encoder_name": "laion/CLIP-ViT-B-16"},
        CAMERAS,
        "vision_encoder_name is 'laion.*accepted: openai/clip-vit-base-patch16",
    ),
    "another size": (
        {"image_crop_shape": [40, 40]},
        CAMERAS,
        r"make \(40, 40\) of the cameras' \(48, 80\), and the tower takes \(32, 32\)",
    ),
    "a cut of no square": (
        {"image_resize_shape": [40, 60]},
        CAMERAS,
        r"image_resize_shape is \(40, 60\) with a cut of \(32, 32\); accepted: a square",
    ),
    "quantised": (
        {"quantization_config": {"bits": 4}},
        CAMERAS,
        "quantised .quantization_config.*accepted: the policy in float32",
    ),
    "no cameras": ({"input_features": {}}, CAMERAS, "input_features names no image"),
    "a shape": (
        {"input_features": {"observation.images.top": {"type": "VISUAL", "shape": [1, 2, 3]}}},
        CAMERAS,
        r"shape of observation.images.top is \[1, 2, 3\]; accepted: \[3, height, width\]",
    ),
    "a normalisation": (
        {"normalization_mapping": {"VISUAL": "ZCA"}},
        CAMERAS,
        "normalisation of VISUAL is 'ZCA'; accepted: IDENTITY",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_the_policys_is_refused_with_the_cure(case, tmp_path):
    fields, statistics, message = WRONG[case]
    config = {**config_of(), **fields}
    check_refused(write_policy(tmp_path, config=config, statistics=statistics), message)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda steps: steps.append({"registry_name": "image_crop_resize_processor"}),
            "the step 'image_crop_resize_processor', which may change pixels; accepted: rename",
        ),
        (
            lambda steps: steps[1]["config"].update(normalize_observation_keys=["x"]),
            r"normalize_observation_keys is \['x'\]; accepted: none",
        ),
        (lambda steps: steps.clear(), "accepted: one step normalizer_processor"),
    ],
)
def test_other_steps_are_refused_by_name(change, message, tmp_path):
    path = write_policy(tmp_path) / "policy_preprocessor.json"
    content = json.loads(path.read_text())
    change(content["steps"])
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(tmp_path))


def test_parts_that_are_missing_are_named(tmp_path):
    folder = write_policy(tmp_path)
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file policy_preprocessor.json; accepted: all"):
        load_checkpoint(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"no file config.json; accepted: the policy's folder"
    ):
        load_checkpoint(str(folder))
    folder = write_policy(tmp_path / "no tower", below="observation_encoder.other.")
    with pytest.raises(CheckpointError, match="no vision tower"):
        load_checkpoint(str(folder))
