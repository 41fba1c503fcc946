"""What config.json and weights files claim, whatever it is: a model, or one error that names it."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from test.checkpoints.huggingface.test_config import VIT
from test.checkpoints.test_sources import CONFIG, folder, tiny_weights, write_json  # noqa: F401
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

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
