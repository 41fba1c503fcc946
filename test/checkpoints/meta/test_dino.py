"""DINO's released backbones and training checkpoints."""

import torch

from test.checkpoints.meta.tensors import backbone
from vit_perception.checkpoints.sources import load_checkpoint


def test_a_released_backbone_is_known_by_its_name(tmp_path):
    torch.save(backbone(), tmp_path / "dino_deitsmall8_pretrain.pth")
    loaded = load_checkpoint(str(tmp_path / "dino_deitsmall8_pretrain.pth"))
    assert (loaded.card.family, loaded.model.config.position_interpolation) == (
        "meta_dino",
        "bicubic_offset",
    )
    assert (loaded.card.rule.network_size_px, loaded.card.rule.resize_shortest_edge_px) == (
        (224, 224),
        256,
    )


def test_it_can_be_named_where_the_file_is_called_otherwise(tmp_path):
    torch.save(backbone(), tmp_path / "mine.pth")
    assert load_checkpoint(str(tmp_path / "mine.pth"), "meta_dino").card.family == "meta_dino"


def test_of_a_training_checkpoint_the_teacher_is_read_and_its_head_left(tmp_path):
    teacher, student = (
        backbone(),
        {f"module.backbone.{name}": t + 1 for name, t in backbone().items()},
    )
    held = {f"backbone.{name}": t for name, t in teacher.items()} | {
        "head.last_layer.weight_v": torch.ones(4, 4)
    }
    torch.save({"student": student, "teacher": held, "epoch": 3}, tmp_path / "checkpoint.pth")
    loaded = load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert (loaded.card.family, loaded.unused) == ("meta_dino", ("head.last_layer.weight_v",))
    torch.testing.assert_close(loaded.model.cls_token, teacher["cls_token"])
