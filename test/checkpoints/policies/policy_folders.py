"""Tiny policies with random weights, as LeRobot, openpi and OpenVLA write them."""

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
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

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


OPENVLA = {
    "model_type": "openvla",
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "timm_override_act_layers": [None, None],
    "image_sizes": [32, 32],
    "use_fused_vision_backbone": True,
}
OPENVLA_IMAGES = {
    "image_processor_type": "PrismaticImageProcessor",
    "image_resize_strategy": "resize-naive",
    "input_sizes": [[3, 32, 32], [3, 32, 32]],
    "interpolations": ["bicubic", "bicubic"],
    "means": [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]],
    "stds": [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]],
}
DINO = ViTConfig(
    width=64,
    depth=3,
    heads=1,
    mlp_width=80,
    patch_size_px=8,
    image_size_px=(32, 32),
    layer_scale=True,
    register_tokens=4,
)
SIGLIP = ViTConfig(
    width=128,
    depth=2,
    heads=2,
    mlp_width=72,
    patch_size_px=8,
    image_size_px=(32, 32),
    cls_token=False,
    pooling="mean",
)


def random_tower(config: ViTConfig) -> VisionTransformer:
    """A tower whose every weight matters."""
    torch.manual_seed(config.width)
    model = VisionTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    # The positions of the CLS token are in none of these files.
    model.position_embedding[:, : config.prefix_tokens] = 0
    return model


def projector(taken: int, width: int) -> nn.Sequential:
    """OpenVLA's projector for two towers."""
    torch.manual_seed(5)
    linear = nn.Linear
    layers = [linear(taken, 4 * taken), linear(4 * taken, width), linear(width, width)]
    parts = [layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2]]
    return nn.Sequential(*parts).requires_grad_(False)


def timm_tensors(model: VisionTransformer) -> dict[str, Tensor]:
    """The tensors of a tower as timm names them, with LayerScale as OpenVLA renames it."""
    held = model.state_dict()
    aliases = ("fc_norm.", "storage_tokens", "register_tokens", "gamma_", "q_bias", "v_bias")
    tensors = {
        theirs: torch.cat([held[name] for name in ours])
        for theirs, ours in key_map(model.config).items()
        if all(name in held for name in ours) and not any(alias in theirs for alias in aliases)
    }
    tensors["pos_embed"] = tensors["pos_embed"][:, model.config.prefix_tokens :]
    return {name.replace(".gamma", ".scale_factor"): tensor for name, tensor in tensors.items()}


def projector_tensors(module: nn.Sequential) -> dict[str, Tensor]:
    """The tensors of a projector, as OpenVLA names them."""
    layers = [part for part in module if isinstance(part, nn.Linear)]
    return {
        f"projector.fc{index + 1}.{name}": tensor
        for index, layer in enumerate(layers)
        for name, tensor in layer.state_dict().items()
    }


def openvla_tensors() -> dict[str, Tensor]:
    """The tensors of an OpenVLA with tiny towers, with some of its language model."""
    tensors = {"language_model.model.norm.weight": torch.zeros(4)}
    for below, config in (("featurizer", DINO), ("fused_featurizer", SIGLIP)):
        for name, tensor in timm_tensors(random_tower(config)).items():
            tensors[f"vision_backbone.{below}.{name}"] = tensor
    tensors["vision_backbone.fused_featurizer.attn_pool.latent"] = torch.zeros(1, 1, 128)
    tensors |= projector_tensors(projector(192, TOKEN_WIDTH))
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def write_openvla(folder: Path, images: dict = OPENVLA_IMAGES, **fields) -> Path:
    """An OpenVLA as its authors write it."""
    write(folder, {**OPENVLA, **fields}, openvla_tensors())
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def openvla_tokens(images: Tensor) -> Tensor:
    """What :func:`write_openvla`'s policy makes of (B, 3, 32, 32) uint8: towers, joined channels,
    projector. The towers are our own, which ``make parity`` holds against timm's.
    """
    patches = []
    for index, config in enumerate((DINO, SIGLIP)):
        mean, std = (
            torch.tensor(OPENVLA_IMAGES[name][index])[:, None, None] for name in ("means", "stds")
        )
        tower = random_tower(config)
        tokens = tower.intermediate((images / 255 - mean) / std, [config.depth - 2])[0]
        patches.append(tokens[:, config.first_patch :])
    return projector(192, TOKEN_WIDTH)(torch.cat(patches, dim=2))
