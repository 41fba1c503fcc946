"""Policies that carry no Vision Transformer, or one that is not read: refused by name."""

import pytest
import torch

from test.checkpoints.policies.policy_folders import lerobot_config, write
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

TENSORS = {"model.backbone.conv1.weight": torch.zeros(4, 3, 7, 7)}


@pytest.mark.parametrize(
    "kind, why",
    [
        ("act", "a ResNet, .*accepted: another encoder here.*docs/policies.md"),
        ("diffusion", "a ResNet"),
        ("xvla", "DaViT"),
        ("vqbet", "a ResNet"),
        ("tdmpc", "a small convolutional network; accepted: another encoder here"),
        ("sac", "a convolutional network; accepted: another encoder here"),
        ("groot", "resized twice .*accepted: its Qwen3-VL tower with the merger alone"),
        ("somebodys_own", "its vision tower is not read here; accepted: "),
    ],
)
def test_refused_by_name_with_what_to_do_instead(kind, why, tmp_path):
    folder = write(tmp_path, lerobot_config(kind), TENSORS)
    with pytest.raises(CheckpointError, match=f"is of a {kind} policy: .*{why}"):
        load_checkpoint(str(folder))


def test_an_adapter_alone_is_refused_with_the_cure(tmp_path):
    folder = write(tmp_path, None, {"base_model.model.x.lora_A.weight": torch.zeros(2, 2)})
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapter without the policy.*merge_and_unload"):
        load_checkpoint(str(folder))


def test_a_policy_without_its_encoder_names_the_encoder(tmp_path):
    config = {"img_token_dim": 1152, "img_cond_len": 4374, "state_token_dim": 128, "rdt": {}}
    folder = write(tmp_path, config, {"img_adaptor.0.weight": torch.zeros(4, 4)})
    with pytest.raises(CheckpointError, match="is of RDT.*accepted: .*siglip-so400m-patch14-384"):
        load_checkpoint(str(folder))
