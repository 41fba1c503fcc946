"""Policies that carry no Vision Transformer, or one that is not read: refused by name. So is what
makes a policy another one than its tower: adapters and quantised weights.
"""

import json

import pytest
import torch

from test.checkpoints.policies import test_evo1, test_multi_task_dit
from test.checkpoints.policies.policy_folders import (
    lerobot_config,
    write,
    write_openvla,
    write_pi0,
    write_smolvla,
)
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


@pytest.mark.parametrize(
    "config, tensors, message",
    [
        ({"model_type": "Gr00tN1d7"}, TENSORS, "is 'Gr00tN1d7': .*accepted: its Qwen3-VL tower"),
        ({"model_type": "gr00t_n1_5"}, TENSORS, "is 'gr00t_n1_5': its Eagle tower.*accepted: "),
        (
            {"type": "groot"},
            {"_groot_model.backbone.eagle_model.x.weight": torch.zeros(2)},
            "groot policy: its Eagle tower, of GR00T before N1.7, .*accepted: GR00T N1.7",
        ),
    ],
)
def test_versions_of_groot_are_told_apart(config, tensors, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(write(tmp_path, config, tensors)))


POLICIES = {
    "pi0": write_pi0,
    "smolvla": write_smolvla,
    "openvla": write_openvla,
    "evo1": test_evo1.write_policy,
    "multi_task_dit": test_multi_task_dit.write_policy,
}


@pytest.mark.parametrize("policy", POLICIES)
def test_adapters_and_quantised_weights_are_refused_of_every_policy(policy, tmp_path):
    folder = POLICIES[policy](tmp_path)
    load_checkpoint(str(folder))
    adapter = folder / "adapter_model.safetensors"
    adapter.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"LoRA adapter \(adapter_model.*merge_and_unload"):
        load_checkpoint(str(folder))
    adapter.unlink()
    config = folder / "config.json"
    fields = {**json.loads(config.read_text()), "quantization_config": {"bits": 4}}
    config.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="quantised .*accepted: the policy in float32"):
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
