"""DPT and Depth Anything against transformers' own models with random weights, and what is
refused.
"""

import json

import pytest
import torch

from test.checkpoints.dense.dense_models import (
    depth_anything_config,
    dinov2_config,
    dpt_config,
    dpt_depth,
    of_a_pipeline,
    randomise,
    save,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def images_of(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def ours(loaded, images: torch.Tensor) -> torch.Tensor:
    spec, grid = loaded.dense, loaded.model.config.grid_of(*images.shape[2:])
    with torch.inference_mode():
        return spec.module(loaded.model.intermediate(images, spec.blocks, spec.norm), grid)


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Largest absolute difference 1e-4, of outputs above 1 in units of their largest."""
    assert a.shape == b.shape and a.std() > 1e-3
    assert (a - b).abs().max() <= 1e-4 * max(1.0, b.abs().max().item())


def edit_config(folder, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"readout_type": "ignore"},
        {"readout_type": "add"},
        {"use_batch_norm_in_fusion_residual": True},
        {"use_bias_in_fusion_residual": False},
        {"backbone_out_indices": [3, 0, 2, 1]},
        {
            "neck_hidden_sizes": [8, 12, 16],
            "reassemble_factors": [2, 1, 0.25],
            "backbone_out_indices": [0, 1, 3],
        },
    ],
)
def test_dpt_depth_is_that_of_transformers(fields, tmp_path):
    model, folder = dpt_depth(tmp_path, **fields)
    loaded = load_checkpoint(str(folder))
    assert (loaded.card.family, loaded.dense.kind, loaded.dense.unit) == ("dpt", "depth", "")
    for images in (images_of(32, 32), images_of(48, 48)):
        with torch.inference_mode():
            assert_close(ours(loaded, images), model(images).predicted_depth)
            encoder = model.dpt(images).last_hidden_state
            output = loaded.model(images)
        assert (
            torch.cat([output.cls_token[:, None], output.patch_tokens], 1) - encoder
        ).abs().max() <= 1e-4


def test_dpt_on_another_aspect_is_that_of_transformers_parts(tmp_path):
    model, folder = dpt_depth(tmp_path)
    images = images_of(32, 56)
    with torch.inference_mode():
        assert_close(ours(load_checkpoint(str(folder)), images), of_a_pipeline(model, images))


def test_dpt_projection_before_the_head(tmp_path):
    model, folder = dpt_depth(tmp_path, add_projection=True, fusion_hidden_size=256)
    with torch.inference_mode():
        assert_close(
            ours(load_checkpoint(str(folder)), images_of(32, 32)),
            model(images_of(32, 32)).predicted_depth,
        )


def test_dpt_segmentation_is_that_of_transformers_and_has_its_labels(tmp_path):
    config = dpt_config(
        use_batch_norm_in_fusion_residual=True, id2label={0: "wall", 1: "floor", 2: "can"}
    )
    model = randomise(transformers.DPTForSemanticSegmentation(config), 0)
    loaded = load_checkpoint(str(save(model, tmp_path, {"height": 32, "width": 32})))
    assert (loaded.dense.kind, loaded.dense.labels) == ("segmentation", ("wall", "floor", "can"))
    assert any(name.startswith("auxiliary_head.") for name in loaded.unused)
    assert any(name.endswith("num_batches_tracked") for name in loaded.unused)
    with torch.inference_mode():
        logits = model(images_of(32, 32)).logits
    assert logits.shape[1] == 3
    assert_close(ours(loaded, images_of(32, 32)), logits)


def test_dpt_on_a_dinov2_is_that_of_transformers(tmp_path):
    config = dpt_config(backbone_config=dinov2_config(apply_layernorm=False), hidden_size=64)
    model = randomise(transformers.DPTForDepthEstimation(config), 0)
    loaded = load_checkpoint(str(save(model, tmp_path, {"height": 56, "width": 56})))
    assert (loaded.dense.blocks, loaded.dense.norm, loaded.dense.quantity) == (
        (0, 1, 3, 4),
        False,
        "depth",
    )
    for images in (images_of(56, 56), images_of(42, 70)):
        with torch.inference_mode():
            assert_close(ours(loaded, images), model(images).predicted_depth)


@pytest.mark.parametrize(
    "fields, quantity",
    [
        ({}, "relative_inverse_depth"),
        ({"depth_estimation_type": "metric", "max_depth": 20}, "metric_depth"),
        ({"reassemble_factors": [2, 1, 1, 0.5]}, "relative_inverse_depth"),
    ],
)
def test_depth_anything_is_that_of_transformers(fields, quantity, tmp_path):
    model = randomise(
        transformers.DepthAnythingForDepthEstimation(depth_anything_config(**fields)), 0
    )
    with torch.no_grad():
        model.head.conv3.bias.fill_(1.0)
    loaded = load_checkpoint(str(save(model, tmp_path, {"height": 56, "width": 56})))
    assert (loaded.card.family, loaded.dense.quantity, loaded.dense.norm) == (
        "depth_anything",
        quantity,
        True,
    )
    assert loaded.dense.unit == ("m" if quantity == "metric_depth" else "")
    for images in (images_of(56, 56), images_of(42, 98)):
        with torch.inference_mode():
            depth = model(images).predicted_depth
        assert_close(ours(loaded, images), depth)
        assert depth.shape[1:] == images.shape[2:]


def test_a_camera_of_4_to_3_gives_the_size_that_the_processor_makes(tmp_path):
    model = randomise(transformers.DepthAnythingForDepthEstimation(depth_anything_config()), 0)
    save(
        model,
        tmp_path,
        {"height": 518, "width": 518},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
    )
    assert load_checkpoint(str(tmp_path)).card.rule.network_size_px == (518, 686)


def test_an_encoder_alone_has_no_head(tmp_path):
    model = randomise(transformers.DPTModel(dpt_config()), 0)
    loaded = load_checkpoint(str(save(model, tmp_path, {"height": 32, "width": 32})))
    assert loaded.dense is None and "pooler.dense.weight" in loaded.unused


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"is_hybrid": True},
            "is_hybrid is true .DPT-Hybrid.*accepted: false, as in Intel/dpt-large",
        ),
        (
            {"backbone_config": {"model_type": "beit"}},
            "the backbone is 'beit'; accepted: backbone_config of model_type",
        ),
        (
            {"backbone_config": {"model_type": "dinov2", "reshape_hidden_states": True}},
            "reshape_hidden_states .* is true",
        ),
        ({"head_in_index": 0}, "head_in_index is 0; accepted: -1"),
        (
            {"readout_type": "mean"},
            "readout of the DPT head is 'mean'; accepted: one of ignore, add, project",
        ),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"reassemble_factors": [4, 2, 1, 0.3]}, "reassemble factor is 0.3"),
        (
            {"neck_hidden_sizes": "large"},
            "neck_hidden_sizes is 'large'; accepted: a list of numbers",
        ),
    ],
)
def test_what_no_head_is_built_for_is_refused(fields, message, tmp_path):
    _, folder = dpt_depth(tmp_path)
    edit_config(folder, **fields)
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"depth_estimation_type": "stereo"},
            "depth_estimation_type is 'stereo'; accepted: relative, metric",
        ),
        ({"backbone_config": None}, "the backbone is None; accepted: backbone_config"),
        (
            {
                "backbone_config": {
                    "model_type": "dinov2",
                    "reshape_hidden_states": False,
                    "out_indices": [3, 13],
                }
            },
            r"out_indices of backbone_config is \[3, 13\]; accepted: 1 to 12",
        ),
    ],
)
def test_depth_anything_refuses(fields, message, tmp_path):
    model = randomise(transformers.DepthAnythingForDepthEstimation(depth_anything_config()), 0)
    save(model, tmp_path, {"height": 56, "width": 56})
    edit_config(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=f"config.json: {message}"):
        load_checkpoint(str(tmp_path))


def test_a_head_with_a_tensor_missing_or_too_many_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    _, folder = dpt_depth(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["neck.extra.weight"] = tensors.pop("neck.convs.1.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="neck.extra.weight|level.1.weight"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"ensure_multiple_of": 0.5}, "ensure_multiple_of is 0.5"),
        ({"do_pad": True, "size_divisor": 14}, r"do_pad pads \(32, 32\) to multiples of 14"),
    ],
)
def test_preprocessing_that_no_engine_can_do_is_refused(fields, message, tmp_path):
    _, folder = dpt_depth(tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json: {message}"):
        load_checkpoint(str(folder))
