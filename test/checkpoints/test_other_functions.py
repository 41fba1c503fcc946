"""What changes a model or its pixels and no tensor is obeyed, or refused by its name."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from test.checkpoints.huggingface.test_config import DINOV2, IMAGENET, VIT, preprocessing
from test.checkpoints.test_sources import CONFIG, folder, tiny_weights, write_json  # noqa: F401
from test.checkpoints.timm.test_vit import HIDDEN, WIDTH, tensors
from test.checkpoints.timm.test_vit import folder as timm_folder
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule

# -- timm ------------------------------------------------------------------------------------------


def config_of(path, held=None, **arguments):
    return load_checkpoint(timm_folder(path, held or tensors(), model_args=arguments)).model.config


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"act_layer": "quick_gelu"}, {"activation": "quick_gelu"}),
        ({"act_layer": "gelu_tanh"}, {"activation": "gelu_tanh"}),
        ({"num_heads": 8}, {"heads": 8}),
        ({"global_pool": "avg"}, {"pooling": "mean"}),
        ({"norm_layer": "layernorm"}, {}),
        ({"global_pool": "max"}, {"pooling": "max"}),
        ({"img_size": [32, 32]}, {"image_size_px": (32, 32)}),
        (
            {
                "drop_path_rate": 0.1,
                "embed_dim": WIDTH,
                "class_token": True,
                "qk_norm": False,
                "pre_norm": False,
            },
            {},
        ),
    ],
)
def test_arguments_of_timm_that_are_obeyed(tmp_path, arguments, expected):
    config = config_of(tmp_path, **arguments)
    plain = {
        "activation": "gelu",
        "heads": 1,
        "pooling": "cls",
        "norm_eps": 1e-6,
        "image_size_px": (32, 32),
    }
    assert {name: getattr(config, name) for name in plain} == plain | expected


def test_a_model_of_timm_without_a_final_norm(tmp_path):
    held = tensors(**{"norm.weight": None, "norm.bias": None})
    assert config_of(tmp_path, held, final_norm=False).final_norm is False
    with pytest.raises(CheckpointError, match="2 missing"):
        config_of(tmp_path, held)
    with pytest.raises(CheckpointError, match="2 unexpected"):
        config_of(tmp_path, final_norm=False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"act_layer": "relu"},
        {"act_layer": "silu"},
        {"act_layer": ["gelu"]},
        {"norm_layer": "rmsnorm"},
        {"global_pool": "avgmax"},
        {"global_pool": ""},
        {"pool_include_prefix": True},
        {"pre_norm": True},
        {"class_token": False},
        {"reg_tokens": 4},
        {"qk_norm": True},
        {"scale_attn_norm": True},
        {"attn_layer": "diff"},
        {"block_fn": "ParallelScalingBlock"},
        {"mlp_layer": "swiglu"},
        {"pos_embed": "none"},
        {"embed_dim": 32},
        {"depth": 2},
        {"patch_size": 16},
        {"in_chans": 1},
        {"num_classes": 4},
        {"use_rot_pos_emb": True},
        {"final_norm": "no"},
        {"num_heads": 0},
        {"num_heads": 10**400},
        {"img_size": 1e9},
        {"rope_type": "mixed"},
    ],
)
def test_arguments_of_timm_that_are_refused_by_name(tmp_path, arguments):
    name = "heads" if "num_heads" in arguments else next(iter(arguments))
    with pytest.raises(CheckpointError, match=f"{name} (of|is)"):
        config_of(tmp_path, **arguments)


def test_an_argument_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError,
        match="model_args has 'softcap', which is not known here; accepted: act_layer, ",
    ):
        config_of(tmp_path, softcap=30.0)


def test_a_swiglu_of_another_activation_is_refused(tmp_path):
    held = tensors(
        **{"blocks.0.mlp.fc1.weight": (2 * HIDDEN, WIDTH), "blocks.0.mlp.fc1.bias": (2 * HIDDEN,)}
    )
    assert config_of(tmp_path, held, act_layer="silu").activation == "swiglu"
    with pytest.raises(CheckpointError, match="act_layer of model_args is 'gelu'; accepted: silu"):
        config_of(tmp_path, held, act_layer="gelu")


def test_a_norm_before_the_blocks_has_the_epsilon_of_its_architecture(tmp_path):
    """timm's CLIP has 1e-5; a plain architecture with ``pre_norm`` keeps 1e-6."""
    held = tensors(
        **{"norm_pre.weight": (WIDTH,), "norm_pre.bias": (WIDTH,), "patch_embed.proj.bias": None}
    )
    assert config_of(tmp_path, held, pre_norm=True).norm_eps == 1e-6
    path = timm_folder(tmp_path, held, "vit_base_patch8_clip_32")
    assert load_checkpoint(path).model.config.norm_eps == 1e-5


# -- image processors ------------------------------------------------------------------------------


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


# -- config.json -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_size": 10**9}, "width of the model is 1000000000; accepted: at most 65536"),
        ({"num_hidden_layers": 10**9}, "depth of the model"),
        ({"image_size": 10**9}, "image_size_px of the model"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 10**9, "image_size": 10**9}, "patch_size_px of the model"),
        ({"intermediate_size": 10**12}, "mlp_width of the model"),
        ({"hidden_size": True}, "width of the model is True"),
        ({"hidden_size": float("nan")}, "width of the model is nan"),
        ({"hidden_size": 10**400}, "width of the model is 1000"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps is inf"),
        ({"layer_norm_eps": 10**400}, "layer_norm_eps is 1000"),
        ({"num_attention_heads": "2"}, "heads of the model is '2'"),
        ({"qkv_bias": 1}, "qkv_bias is 1"),
        ({"hidden_act": "x" * 10**6}, "hidden_act is 'x"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"hidden_size": 65536, "num_attention_heads": 1}, r"mis-shaped(.|\n)*\(65536,"),
        ({"image_size": 16384}, "mis-shaped"),
        (
            {"architectures": ["ViTForImageClassification"], "num_labels": 10**9},
            "num_labels is 1000000000",
        ),
        ({"architectures": 5}, "int"),
        ({"id2label": 3, "architectures": ["ViTForImageClassification"]}, "id2label is 3"),
    ],
)
def test_claims_of_config_json_take_no_memory(folder, changes, message):
    write_json(folder, "config.json", {**CONFIG, **changes})
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(str(folder))
    assert len(str(error.value)) < 20_000


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mlp_ratio": "4"}, "mlp_ratio is '4'; accepted: a number"),
        ({"mlp_ratio": 1e308}, "mlp_ratio is 1e"),
        ({"mlp_ratio": [4]}, "mlp_ratio is"),
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"use_swiglu_ffn": "no"}, "use_swiglu_ffn is 'no'"),
        ({"num_register_tokens": 10**9}, "register_tokens of the model"),
    ],
)
def test_claims_of_a_dinov2(folder, changes, message):
    write_json(
        folder,
        "config.json",
        {**CONFIG, "model_type": "dinov2_with_registers", "num_register_tokens": 0, **changes},
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    "text", ['{"a":' * 100_000, "\x00", '{"model_type": "vit", "x": ' + "9" * 5000 + "}", "[]", ""]
)
def test_json_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="config.json"):
        load_checkpoint(str(folder))


# -- mutations -------------------------------------------------------------------------------------


VALUES = (
    None,
    True,
    0,
    -1,
    10**9,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    [],
    [1, 2, 3],
    {},
    {"height": 1},
    [[]],
)


def test_any_value_under_any_name_ends_in_a_model_or_one_error(folder):
    save_file(tiny_weights(2), folder / "model.safetensors")
    config = {
        **CONFIG,
        "architectures": ["ViTForImageClassification"],
        "id2label": {"0": "a", "1": "b"},
        "problem_type": None,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "num_channels": 3,
    }
    processor = {
        **VIT,
        "size": {"height": 16, "width": 16},
        "crop_size": 16,
        "do_center_crop": False,
        "do_pad": False,
        "rescale_factor": 1 / 255,
        "image_processor_type": "ViTImageProcessor",
    }
    for file, fields, other in (
        ("config.json", config, processor),
        ("preprocessor_config.json", processor, config),
    ):
        write_json(folder, "config.json" if other is config else "preprocessor_config.json", other)
        for name in fields:
            for value in VALUES:
                write_json(folder, file, {**fields, name: value})
                try:
                    load_checkpoint(str(folder))
                except CheckpointError as error:
                    assert len(str(error)) < 20_000, (name, value)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "old.pt", "npz", "h5"])
def test_flipped_and_missing_bytes(tmp_path, suffix):
    import h5py

    path, rng = tmp_path / f"m.{suffix}", np.random.default_rng(7)
    held = {f"blocks.{k}.weight": torch.randn(6, 5) for k in range(3)}
    if suffix == "safetensors":
        save_file(held, path)
    elif suffix == "npz":
        np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in held.items()})
    elif suffix == "h5":
        with h5py.File(path, "w") as file:
            for name, tensor in held.items():
                file[name] = tensor.numpy()
    else:
        torch.save(held, path, _use_new_zipfile_serialization=suffix == "pt")
    whole = path.read_bytes()
    for _ in range(60 if suffix == "h5" else 150):
        content = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.integers(1, 4)):
            if content:
                content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            load_checkpoint(str(path))
        except CheckpointError as error:
            assert "m." in str(error)
            continue
        pytest.fail("three tensors that make no model were taken for one")
