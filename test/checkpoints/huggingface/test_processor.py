"""Fields of an image processor: obeyed, or refused by name where they would change pixels."""

import numpy as np
import pytest
from PIL import Image

from test.checkpoints.huggingface.test_config import DINOV2, IMAGENET, VIT, preprocessing
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.image.patch_geometry import ResizeRule


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"do_pad": True, "pad_size": {"height": 256, "width": 256}},
            "do_pad pads .224, 224. to pad_size {'height': 256",
        ),
        ({"do_pad": True, "pad_size": 256}, "do_pad pads .224, 224. to pad_size 256"),
        ({"do_pad": True, "size_divisor": 48}, "do_pad pads .224, 224. to multiples of 48"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True, which changes pixels"),
        ({"do_grayscale": True}, "do_grayscale is True"),
        ({"do_thumbnail": True}, "do_thumbnail is True"),
        ({"do_align_long_axis": True}, "do_align_long_axis is True"),
        ({"do_what_comes_next": True}, "do_what_comes_next"),
        ({"crop_pct": 0.875}, "crop_pct is 0.875, which changes pixels"),
        ({"rescale_offset": True}, "rescale_offset is"),
        ({"keep_aspect_ratio": True}, "keep_aspect_ratio is True"),
        ({"ensure_multiple_of": 48}, "ensure_multiple_of 48"),
        (
            {"image_processor_type": "ConvNextImageProcessor"},
            "image_processor_type is 'ConvNextImageProcessor'",
        ),
        ({"image_processor_type": ["ViTImageProcessor"]}, "image_processor_type is"),
        (
            {
                "size": {"shortest_edge": 224, "longest_edge": 448},
                "do_center_crop": True,
                "crop_size": 224,
            },
            "size is",
        ),
        ({"size": {"max_height": 224, "max_width": 224}}, "size is"),
        ({"do_resize": "false"}, "do_resize is 'false'"),
        ({"do_normalize": 0}, "do_normalize is 0; accepted: true or false"),
        ({"resample": True}, "resample is True"),
        ({"size": 224, "default_to_square": False}, "size is 224 without do_center_crop"),
        ({"image_mean": "123"}, "image_mean is '123'; accepted: 3 numbers"),
        ({"image_std": [1, 1, 10**400]}, "image_std"),
        ({"image_mean": [0.5, 0.5, float("nan")]}, "image_mean is"),
        ({"rescale_factor": 10**400}, "rescale_factor|too large"),
        ({"size": {"height": 10**9, "width": 10**9}}, "network_size_px is"),
        ({"size": 1e400}, "size is inf"),
    ],
)
def test_what_changes_pixels_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        preprocessing(tmp_path, {**VIT, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"do_pad": True},
        {"do_pad": True, "pad_size": {"height": 224, "width": 224}},
        {"do_pad": False, "pad_size": 512},
        {"do_convert_rgb": False},
        {"do_grayscale": False},
        {"crop_pct": None},
        {"input_data_format": "channels_last"},
        {"do_reduce_labels": True},
        {"image_processor_type": "ViTImageProcessorFast"},
        {"size": 224},
        {"do_normalize": None, "do_rescale": None, "do_resize": None},
        {"size_divisor": 48},
    ],
)
def test_what_changes_nothing_is_accepted(tmp_path, changes):
    assert preprocessing(tmp_path, {**VIT, **changes}) == (
        ResizeRule((224, 224), "stretch", interpolation="bilinear"),
        (0.5,) * 3,
        (0.5,) * 3,
    )


def test_one_number_before_a_crop_by_the_processor(tmp_path):
    fields = {**IMAGENET, "size": 256, "crop_size": 224, "do_center_crop": True}
    edge, square = ResizeRule((224, 224), "crop", 256), ResizeRule((224, 224), "stretch_crop", 256)
    for kind, expected in (
        ("CLIPImageProcessor", edge),
        ("BitImageProcessor", edge),
        ("ViTImageProcessor", square),
        ("DeiTFeatureExtractor", square),
        (None, edge),
    ):
        assert preprocessing(tmp_path, {**fields, "image_processor_type": kind})[0] == expected
    assert preprocessing(tmp_path, {**fields, "default_to_square": True})[0] == square


def test_padding_gives_the_size_that_transformers_gives(tmp_path):
    """The fault was: pictures of 224 px where the model's author had 256."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    fields = {
        **DINOV2,
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "do_pad": True,
        "pad_size": {"height": 224, "width": 224},
    }
    theirs = ViTImageProcessorPil(**fields)(
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)), return_tensors="np"
    )
    assert preprocessing(tmp_path, fields)[0].network_size_px == theirs["pixel_values"].shape[2:]
