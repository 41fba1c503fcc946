"""DeiT's and DeiT III's own files."""

import logging

import pytest
import torch

from test.checkpoints.meta.tensors import PATCHES, WIDTH, backbone
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

HEAD = {"head.weight": (5, WIDTH), "head.bias": (5,)}


def saved(path, held):
    torch.save({"model": held}, path)
    return str(path)


def test_a_file_is_known_by_its_name_and_its_preprocessing_is_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(saved(tmp_path / "deit_tiny_patch8_32-a1.pth", backbone(**HEAD)))
    rule = loaded.card.rule
    assert (loaded.card.family, loaded.model.config.classes) == ("meta_deit", 5)
    assert (rule.fit, rule.network_size_px, rule.resize_shortest_edge_px) == ("crop", (32, 32), 36)
    assert "taken: DeiT's evaluation transform" in caplog.text


def test_a_preprocessor_config_beside_it_is_taken_without_a_warning(tmp_path, caplog):
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, '
        "1]}"
    )
    card = load_checkpoint(saved(tmp_path / "deit_tiny_patch8_32-a1.pth", backbone(**HEAD))).card
    assert (card.rule.fit, card.mean) == ("stretch", (0.1, 0.2, 0.3)) and "taken" not in caplog.text


def test_the_distilled_one_averages_two_heads(tmp_path):
    held = backbone(
        **HEAD,
        **{
            "dist_token": (1, 1, WIDTH),
            "pos_embed": (1, PATCHES + 2, WIDTH),
            "head_dist.weight": (5, WIDTH),
            "head_dist.bias": (5,),
        },
    )
    model = load_checkpoint(saved(tmp_path / "deit_tiny_distilled_patch8_32-a1.pth", held)).model
    assert model.config.head == "distilled"
    with torch.inference_mode():
        tokens = torch.randn(1, PATCHES + 2, WIDTH)
        expected = (model.head(tokens[:, 0]) + model.head_distillation(tokens[:, 1])) / 2
        torch.testing.assert_close(model.classify(tokens), expected)


def test_deit_3_is_known_by_its_factors_and_has_no_position_for_cls(tmp_path):
    held = backbone(
        **HEAD,
        **{
            "pos_embed": (1, PATCHES, WIDTH),
            "blocks.0.gamma_1": (WIDTH,),
            "blocks.0.gamma_2": (WIDTH,),
        },
    )
    loaded = load_checkpoint(saved(tmp_path / "weights.pth", held))
    assert (loaded.card.family, loaded.card.rule.resize_shortest_edge_px) == ("meta_deit", 32)
    assert not loaded.model.position_embedding[:, 0].any()
    torch.testing.assert_close(
        loaded.model.blocks[0].scale_attention.factor, held["blocks.0.gamma_1"]
    )


def test_parallel_branches_are_refused(tmp_path):
    held = backbone(**HEAD, **{"blocks.0.attn1.qkv.weight": (3 * WIDTH, WIDTH)})
    with pytest.raises(
        CheckpointError, match="has parallel branches or a convolutional stem .blocks.0.attn1"
    ):
        load_checkpoint(saved(tmp_path / "deit_small_patch8_32_LS.pth", held))
