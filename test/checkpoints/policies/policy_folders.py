"""Tiny policies with random weights, as LeRobot and openpi write them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from test.checkpoints.huggingface.models import randomised

WIDTH = 128
TOKEN_WIDTH = 48
STATE_COUNT = 7
STATE_INPUTS = 32
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": TOKEN_WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "vocab_size": 40,
}
STATISTICS = {
    "mean": torch.linspace(-1, 1, STATE_COUNT),
    "std": torch.linspace(0.1, 2, STATE_COUNT),
    "min": torch.linspace(-3, -2, STATE_COUNT),
    "max": torch.linspace(2, 4, STATE_COUNT),
}
NORMALIZER = "policy_preprocessor_step_5_normalizer_processor.safetensors"


def smolvlm(
    shuffle: int = 4, width: int = TOKEN_WIDTH, **vision
) -> SmolVLMForConditionalGeneration:
    """SmolVLA's language model with its tower."""
    config = SmolVLMConfig(
        vision_config={**VISION, "model_type": "smolvlm_vision", **vision},
        text_config={**TEXT, "hidden_size": width, "model_type": "llama", "pad_token_id": 0},
        scale_factor=shuffle,
        pad_token_id=0,
    )
    return randomised(SmolVLMForConditionalGeneration, config)


def paligemma(width: int = TOKEN_WIDTH, **vision) -> PaliGemmaForConditionalGeneration:
    """π0's language model with its tower."""
    config = PaliGemmaConfig(
        vision_config={**VISION, "vision_use_head": False, **vision},
        text_config={**TEXT, "hidden_size": width, "model_type": "gemma", "pad_token_id": 0},
        projection_dim=width,
        hidden_size=width,
    )
    return randomised(PaliGemmaForConditionalGeneration, config)


def state_projection(width: int) -> nn.Linear:
    """The projection of the robot's state."""
    torch.manual_seed(3)
    return nn.Linear(STATE_INPUTS, width)


def policy_tensors(model: nn.Module, prefix: str, state: nn.Linear | None) -> dict[str, Tensor]:
    """The tensors of a policy: those of its language model, and some of its action side."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["model.action_in_proj.weight"] = torch.zeros(4, 4)
    if state is not None:
        tensors |= {f"model.state_proj.{n}": tensor for n, tensor in state.state_dict().items()}
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def smolvla_tensors(model: nn.Module | None = None) -> dict[str, Tensor]:
    """The tensors of a SmolVLA."""
    model = model or smolvlm()
    state = state_projection(model.config.text_config.hidden_size)
    return policy_tensors(model, "model.vlm_with_expert.vlm.", state)


def pi0_tensors(model: nn.Module | None = None, prefix: str = "model.") -> dict[str, Tensor]:
    """The tensors of a π0; openpi's begin without ``model.``."""
    found = policy_tensors(
        model or paligemma(), "model.paligemma_with_expert.paligemma.", state_projection(64)
    )
    tower = "paligemma.model.vision_tower."
    # As transformers 4 names them, with which both authors write their files.
    named = {name.replace(tower, f"{tower}vision_model."): tensor for name, tensor in found.items()}
    return {f"{prefix}{name.removeprefix('model.')}": tensor for name, tensor in named.items()}


def lerobot_config(kind: str, **fields) -> dict:
    """LeRobot's config.json."""
    return {
        "type": kind,
        "n_obs_steps": 1,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [STATE_COUNT]},
            "observation.images.top": {"type": "VISUAL", "shape": [3, 48, 80]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [STATE_COUNT]}},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "max_state_dim": STATE_INPUTS,
        **fields,
    }


SMOLVLA = lerobot_config("smolvla", resize_imgs_with_padding=[64, 64])
PI0 = lerobot_config("pi0", image_resolution=[64, 64])
# What openpi's conversion from JAX writes.
OPENPI = {
    "action_dim": 32,
    "action_horizon": 50,
    "paligemma_variant": "gemma_2b",
    "action_expert_variant": "gemma_300m",
    "precision": "bfloat16",
}


def write(folder: Path, config: dict | None, tensors: dict[str, Tensor]) -> Path:
    """Write the folder of a policy, with the statistics of its state."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if config is not None and "type" in config:
        step = {"registry_name": "normalizer_processor", "config": {}, "state_file": NORMALIZER}
        steps = [{"registry_name": "rename_observations_processor", "config": {}}, step]
        (folder / "policy_preprocessor.json").write_text(
            json.dumps({"name": "policy_preprocessor", "steps": steps})
        )
        statistics = {f"observation.state.{n}": tensor for n, tensor in STATISTICS.items()}
        save_file(statistics, folder / NORMALIZER)
    return folder


def write_smolvla(folder: Path) -> Path:
    """A SmolVLA as LeRobot writes it."""
    return write(folder, SMOLVLA, smolvla_tensors())


def write_pi0(folder: Path) -> Path:
    """A π0 as LeRobot writes it."""
    return write(folder, PI0, pi0_tensors())
