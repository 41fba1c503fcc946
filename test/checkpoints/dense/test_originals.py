"""The authors' own files of Depth Anything and DPT: the weights of transformers' models under the
authors' names.
"""

import pytest
import torch

from test.checkpoints.dense.dense_authors import anything_tensors, dpt_tensors
from test.checkpoints.dense.dense_models import (
    depth_anything_config,
    dinov2_config,
    dpt_config,
    randomise,
)
from vit_perception.checkpoints.dense.names import size_keeping_aspect
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def anything():
    """A Depth Anything of 12 blocks of one head of 64 channels: transformers' model, and the
    authors' tensors.
    """

    def make(**fields):
        indices = fields.pop("out_indices", [3, 6, 9, 12])
        backbone = dinov2_config(
            12, hidden_size=64, num_attention_heads=1, mlp_ratio=1, out_indices=indices
        )
        model = randomise(
            transformers.DepthAnythingForDepthEstimation(depth_anything_config(backbone, **fields)),
            0,
        )
        with torch.no_grad():
            model.head.conv3.bias.fill_(1.0)
        return model, anything_tensors(model)

    return make


def ours(loaded, images):
    spec, grid = loaded.dense, loaded.model.config.grid_of(*images.shape[2:])
    with torch.inference_mode():
        return spec.module(loaded.model.intermediate(images, spec.blocks, spec.norm), grid)


@pytest.mark.parametrize(
    "name, family, fields",
    [
        ("depth_anything_v2_vits.pth", "depth_anything_v2", {}),
        ("depth_anything_vits14.pth", "depth_anything_v1", {"out_indices": [9, 10, 11, 12]}),
        (
            "depth_anything_v2_metric_hypersim_vits.pth",
            "depth_anything_v2_metric_indoor",
            {"depth_estimation_type": "metric", "max_depth": 20},
        ),
        (
            "depth_anything_v2_metric_vkitti_vits.pth",
            "depth_anything_v2_metric_outdoor",
            {"depth_estimation_type": "metric", "max_depth": 80},
        ),
    ],
)
def test_depth_anything_by_the_name_that_it_was_published_under(
    anything, name, family, fields, tmp_path
):
    model, tensors = anything(**fields)
    torch.save(tensors, tmp_path / name)
    loaded = load_checkpoint(str(tmp_path / name))
    assert loaded.card.family == family and loaded.card.rule.network_size_px == (518, 686)
    assert loaded.dense.unit == ("m" if "metric" in family else "")
    images = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        depth = model(images).predicted_depth
    assert depth.std() > 1e-3
    assert (ours(loaded, images) - depth).abs().max() <= 1e-4 * max(1, depth.max())
    assert "pretrained.mask_token" in loaded.unused and any(
        "refinenet4.resConfUnit1" in n for n in loaded.unused
    )


def test_a_renamed_file_needs_its_family(anything, tmp_path):
    path = tmp_path / "depth.pth"
    torch.save(anything()[1], path)
    with pytest.raises(
        CheckpointError,
        match=r"depth.pth is a Depth Anything file, but of V1, V2 or V2 metric\?"
        ".*model.family depth_anything_v1, depth_anything_v2, ",
    ):
        load_checkpoint(str(path))
    assert load_checkpoint(str(path), "depth_anything_v1").dense.blocks == (8, 9, 10, 11)
    indoor = load_checkpoint(str(path), "depth_anything_v2_metric_indoor").dense
    assert (indoor.blocks, indoor.quantity, indoor.module.config.scale) == (
        (2, 5, 8, 11),
        "metric_depth",
        20,
    )


def test_a_depth_anything_of_another_depth_is_refused(anything, tmp_path):
    tensors = {n: t for n, t in anything()[1].items() if not n.startswith("pretrained.blocks.11.")}
    torch.save(tensors, tmp_path / "depth_anything_v2_vits.pth")
    with pytest.raises(
        CheckpointError, match="has 11 blocks; accepted for depth_anything_v2: 12, 24, 40"
    ):
        load_checkpoint(str(tmp_path / "depth_anything_v2_vits.pth"))


DPT_12 = {
    "num_hidden_layers": 12,
    "num_attention_heads": 1,
    "layer_norm_eps": 1e-6,
    "intermediate_size": 64,
    "backbone_out_indices": [2, 5, 8, 11],
}


def test_dpt_depth(tmp_path):
    model = randomise(transformers.DPTForDepthEstimation(dpt_config(**DPT_12, head_in_index=-1)), 0)
    with torch.no_grad():
        model.head.head[4].bias.fill_(3.0)
    torch.save(dpt_tensors(model), tmp_path / "dpt_large-midas-2f21e586.pt")
    loaded = load_checkpoint(str(tmp_path / "dpt_large-midas-2f21e586.pt"))
    assert (loaded.card.family, loaded.dense.quantity) == ("dpt_original", "relative_inverse_depth")
    assert loaded.card.rule.network_size_px == (384, 512) and "auxlayer.0.weight" in loaded.unused
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        depth = model(images).predicted_depth
    assert depth.std() > 1e-3 and (ours(loaded, images) - depth).abs().max() <= 1e-4 * max(
        1, depth.max()
    )


def test_dpt_segmentation(tmp_path):
    config = dpt_config(**DPT_12, use_batch_norm_in_fusion_residual=True, num_labels=5)
    model = randomise(transformers.DPTForSemanticSegmentation(config), 0)
    torch.save(dpt_tensors(model), tmp_path / "dpt_large-ade20k.pt")
    loaded = load_checkpoint(str(tmp_path / "dpt_large-ade20k.pt"))
    assert loaded.dense.labels == ("class_0", "class_1", "class_2", "class_3", "class_4")
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = model(images).logits
    assert logits.std() > 1e-3 and (ours(loaded, images) - logits).abs().max() <= 1e-4 * max(
        1, logits.abs().max()
    )


def test_a_hybrid_is_refused(tmp_path):
    model = randomise(transformers.DPTForDepthEstimation(dpt_config(**DPT_12)), 0)
    torch.save(
        dpt_tensors(model)
        | {"pretrained.model.patch_embed.backbone.stem.conv.weight": torch.zeros(1)},
        tmp_path / "dpt_hybrid.pt",
    )
    with pytest.raises(
        CheckpointError, match="dpt_hybrid.pt is a DPT-Hybrid: .*accepted: DPT-Large"
    ):
        load_checkpoint(str(tmp_path / "dpt_hybrid.pt"))


@pytest.mark.parametrize(
    "size, source, multiple, choose, wanted",
    [
        ((518, 518), (480, 640), 14, min, (518, 686)),  # 518 / 480 is nearer to 1 than 518 / 640
        ((384, 384), (480, 640), 32, min, (384, 512)),
        ((384, 384), (384, 384), 1, min, (384, 384)),
        ((518, 518), (480, 640), 14, max, (518, 686)),
        ((518, 518), (720, 1280), 14, max, (518, 924)),
        ((384, 384), (300, 1000), 32, min, (384, 1280)),
    ],
)
def test_sizes_that_keep_the_aspect(size, source, multiple, choose, wanted):
    """By hand: 640 * 518 / 480 = 690.7, to the nearest 14: 686; 1280 * 518 / 720 = 920.9: 924."""
    assert size_keeping_aspect(size, source, multiple, choose) == wanted
