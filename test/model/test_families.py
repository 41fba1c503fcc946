"""The model's switches against transformers' own models, with random weights and names mapped by
hand.
"""

import re

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vit_perception.checkpoints.load_strict import build_strict
from vit_perception.model.vision_transformer import ViTConfig

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "_attn_implementation": "eager",
}
OURS = {
    "width": 32,
    "depth": 3,
    "heads": 4,
    "mlp_width": 48,
    "patch_size_px": 8,
    "image_size_px": (32, 32),
}
# Ends of names, as the modules of all these models have them, in the order in which they are tried.
RENAMED = [
    (r"^(deit|clip|vision_model|model)\.", ""),
    (r"^(encoder\.layers?|encoder\.block|layers?)\.(\d+)\.", r"blocks.\2."),
    (r"^embeddings\.(cls_token|distillation_token|register_tokens)", r"\1"),
    (r"^embeddings\.class_embedding", "cls_token"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "position_embedding"),
    (r"^embeddings\.patch_embeddings?(\.projection)?\.", "patch_embedding.projection."),
    (r"\.self_attn\.|\.attention\.attention\.", ".attention."),
    (r"\.attention\.(output\.dense|o_proj|out_proj)\.", ".attention.output."),
    (r"\.(query|q_proj)\.", ".query."),
    (r"\.(key|k_proj)\.", ".key."),
    (r"\.(value|v_proj)\.", ".value."),
    (r"\.(norm1|layernorm_before|layer_norm1)\.", ".norm_attention."),
    (r"\.(norm2|layernorm_after|layer_norm2)\.", ".norm_mlp."),
    (r"\.layer_scale1\.lambda1", ".scale_attention.factor"),
    (r"\.layer_scale2\.lambda1", ".scale_mlp.factor"),
    (r"\.(mlp\.fc1|intermediate\.dense|mlp\.up_proj)\.", ".mlp.up."),
    (r"\.mlp\.gate_proj\.", ".mlp.gate."),
    (r"\.(mlp\.fc2|mlp\.down_proj|output\.dense)\.", ".mlp.down."),
    (r"^(layernorm|post_layernorm|norm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_before."),
    (r"^head\.layernorm\.", "attention_pooling.norm."),
    (r"^head\.mlp\.", "attention_pooling.mlp."),
    (r"^head\.(probe|attention)", r"attention_pooling.\1"),
    (r"attention_pooling\.attention\.out_proj", "attention_pooling.attention.output"),
    (r"^cls_classifier", "head"),
    (r"^distillation_classifier", "head_distillation"),
]


def randomised(module_class, config):
    torch.manual_seed(0)
    model = module_class(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        one = ("norm" in name and name.endswith("weight")) or "layer_scale" in name
        parameter.normal_(
            mean=float(one), std=parameter[0].numel() ** -0.5 if parameter.ndim == 2 else 0.2
        )
    return model


def ours_of(theirs, config: ViTConfig):
    """Our model with their weights; what they lack (a bias of the key, of the patches) is zero."""
    tensors = {}
    for name, tensor in theirs.state_dict().items():
        if "mask_token" in name or "pooler" in name or "position_ids" in name:
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3)):
                tensors[name.replace("in_proj_", f"{part}.")] = piece
        else:
            tensors[name] = tensor
    if config.cls_token:
        tensors["cls_token"] = tensors["cls_token"].reshape(1, 1, -1)
    if config.position_embedding == "learned":
        tensors["position_embedding"] = tensors["position_embedding"].reshape(1, -1, config.width)
    tensors.setdefault("patch_embedding.projection.bias", torch.zeros(config.width))
    for index in range(config.depth):
        tensors.setdefault(f"blocks.{index}.attention.key.bias", torch.zeros(config.width))
    return build_strict(config, tensors, "memory")


def differences(ours, theirs_tokens, first_patch, sizes=((32, 32), (48, 24))):
    for size in sizes:
        images = torch.randn(2, 3, *size)
        out, tokens = ours(images), theirs_tokens(images)
        assert tokens[:, first_patch:].std(dim=1).mean() > 0.3
        yield f"patches {size}", (out.patch_tokens - tokens[:, first_patch:]).abs().max().item()
        if ours.config.cls_token:
            yield f"cls {size}", (out.cls_token - tokens[:, 0]).abs().max().item()


def all_close(found):
    found = dict(found)
    assert found and all(value <= 1e-5 for value in found.values()), found


def test_dinov2_with_registers_is_interpolated_with_antialias():
    theirs = randomised(
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=4),
    )
    config = ViTConfig(
        **{**OURS, "mlp_width": 64},
        layer_scale=True,
        register_tokens=4,
        position_interpolation="bicubic_antialias",
    )
    all_close(differences(ours_of(theirs, config), lambda x: theirs(x).last_hidden_state, 5))


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3_with_rope_on_any_grid(gated):
    theirs = randomised(
        DINOv3ViTModel,
        DINOv3ViTConfig(
            **SIZES,
            intermediate_size=48,
            num_register_tokens=4,
            use_gated_mlp=gated,
            hidden_act="silu" if gated else "gelu",
            rope_theta=100.0,
        ),
    )
    config = ViTConfig(
        **OURS,
        layer_scale=True,
        register_tokens=4,
        position_embedding="none",
        rope_theta=100.0,
        norm_eps=1e-5,
        activation="swiglu" if gated else "gelu",
    )
    ours = ours_of(theirs, config)
    all_close(
        differences(ours, lambda x: theirs(x).last_hidden_state, 5, ((32, 32), (48, 24), (8, 64)))
    )
    images = torch.randn(1, 3, 48, 24)
    attention = theirs(images, output_attentions=True).attentions[-1][:, :, 0, 5:]
    assert (ours(images).cls_attention - attention).abs().max() <= 1e-5


def test_clip_norms_before_the_blocks_and_its_pooled_vector_only():
    theirs = randomised(CLIPVisionModel, CLIPVisionConfig(**SIZES, intermediate_size=48))
    config = ViTConfig(**OURS, norm_before_blocks=True, activation="quick_gelu", norm_eps=1e-5)
    ours = ours_of(theirs, config)
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        out, expected = ours(images), theirs(images, interpolate_pos_encoding=True)
        assert (out.cls_token - expected.pooler_output).abs().max() <= 1e-5
        raw = ours.intermediate(images, [-1])[0]
        assert (raw - expected.last_hidden_state).abs().max() <= 1e-5


def test_siglip_has_no_cls_token_and_pools_by_attention():
    theirs = randomised(SiglipVisionModel, SiglipVisionConfig(**SIZES, intermediate_size=48))
    config = ViTConfig(**OURS, cls_token=False, pooling="map", activation="gelu_tanh")
    ours = ours_of(theirs, config)
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        out, expected = ours(images), theirs(images, interpolate_pos_encoding=True)
        assert (out.patch_tokens - expected.last_hidden_state).abs().max() <= 1e-5
        assert (out.cls_token - expected.pooler_output).abs().max() <= 1e-5
        assert out.pooled is out.cls_token
        pooling = (theirs if hasattr(theirs, "head") else theirs.vision_model).head.attention
        probe = ours.attention_pooling.probe.expand(2, -1, -1)
        _, weights = pooling(
            probe,
            expected.last_hidden_state,
            expected.last_hidden_state,
            average_attn_weights=False,
        )
        assert (out.cls_attention - weights[:, :, 0]).abs().max() <= 1e-5


def test_deit_averages_the_heads_of_its_two_tokens():
    theirs = randomised(
        DeiTForImageClassificationWithTeacher,
        DeiTConfig(**SIZES, intermediate_size=48, num_labels=7),
    )
    config = ViTConfig(**OURS, distillation_token=True, norm_eps=1e-12, head="distilled", classes=7)
    ours = ours_of(theirs, config)
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        out, expected = ours(images), theirs(images, interpolate_pos_encoding=True)
        backbone = theirs.deit(images, interpolate_pos_encoding=True).last_hidden_state
        assert (out.logits - expected.logits).abs().max() <= 1e-5
        assert (out.patch_tokens - backbone[:, 2:]).abs().max() <= 1e-5
        assert (out.cls_token - backbone[:, 0]).abs().max() <= 1e-5
