"""Our model against transformers' own, on random weights: every family, class, spelling and
grid.
"""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    ViTForImageClassification,
    ViTModel,
)
from transformers import ViTConfig as HuggingFaceViTConfig

from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.family import LoadPlan, Preprocessing, translate
from vit_perception.checkpoints.huggingface import vit as huggingface_vit
from vit_perception.checkpoints.load_strict import build_strict
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS

LIMIT = 1e-4
LABELS = {0: "cup", 1: "can", 2: "crane", 3: "crane"}
STRETCH = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
VIT = {**SIZES, "intermediate_size": 48}
CASES = {
    "vit": (ViTModel, HuggingFaceViTConfig(**VIT)),
    "vit, no qkv bias, tanh gelu": (
        ViTModel,
        HuggingFaceViTConfig(**VIT, qkv_bias=False, hidden_act="gelu_pytorch_tanh"),
    ),
    "vit classifier": (ViTForImageClassification, HuggingFaceViTConfig(**VIT, id2label=LABELS)),
    "dinov2": (Dinov2Model, Dinov2Config(**SIZES, mlp_ratio=2)),
    "dinov2 swiglu": (Dinov2Model, Dinov2Config(**SIZES, mlp_ratio=4, use_swiglu_ffn=True)),
    "dinov2 classifier": (
        Dinov2ForImageClassification,
        Dinov2Config(**SIZES, mlp_ratio=2, id2label=LABELS),
    ),
}


def randomised(module_class, config):
    """A model of transformers whose every weight matters: its own initial ones are zeros, ones and
    nearly zero.
    """
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = module_class(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        one = ("norm" in name and name.endswith("weight")) or "layer_scale" in name
        # Matrices keep the size of what they are given, so that no width drowns any part.
        parameter.normal_(
            mean=float(one), std=parameter[0].numel() ** -0.5 if parameter.ndim == 2 else 0.2
        )
    return model


def run_theirs(model, images):
    """Tokens behind the final norm, every block's attention and hidden states, logits or None."""
    options = {"interpolate_pos_encoding": True} if model.config.model_type == "vit" else {}
    options |= {"output_attentions": True, "output_hidden_states": True}
    backbone = getattr(model, model.base_model_prefix, model)
    out = backbone(images, **options)
    logits = model(images, **options).logits if backbone is not model else None
    return out.last_hidden_state, out.attentions, out.hidden_states, logits, backbone.layernorm


def largest_difference(ours, theirs) -> float:
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("spelling", ["as saved", "as the modules are named"])
@pytest.mark.parametrize("case", CASES)
def test_parity(case, spelling, tmp_path):
    theirs = randomised(*CASES[case])
    theirs.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(STRETCH))
    if spelling == "as the modules are named":
        save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    loaded = load_checkpoint(str(tmp_path))
    differences = {}
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        tokens, attentions, hidden, logits, norm = run_theirs(theirs, images)
        assert tokens[:, 1:].std(dim=1).mean() > 0.3  # unlike patches, or parity would say little
        ours = loaded.model(images)
        differences[f"cls {size}"] = largest_difference(ours.cls_token, tokens[:, 0])
        differences[f"patches {size}"] = largest_difference(ours.patch_tokens, tokens[:, 1:])
        differences[f"attention {size}"] = largest_difference(
            ours.cls_attention, attentions[-1][:, :, 0, 1:]
        )
        assert (ours.logits is None) == (logits is None)
        if logits is not None:
            differences[f"logits {size}"] = largest_difference(ours.logits, logits)
        earlier = loaded.model(images, block=1)
        differences[f"block 1 {size}"] = largest_difference(
            earlier.patch_tokens, norm(hidden[2])[:, 1:]
        )
        differences[f"attention of block 1 {size}"] = largest_difference(
            earlier.cls_attention, attentions[1][:, :, 0, 1:]
        )
    assert all(value <= LIMIT for value in differences.values()), differences
    assert loaded.card.labels == (tuple(LABELS.values()) if "classifier" in case else ())
    expected_unused = {
        "vit": {"pooler.dense.weight", "pooler.dense.bias"},
        "dinov2": {"embeddings.mask_token"},
    }
    bare = {name.removeprefix("dinov2.") for name in loaded.unused}
    assert bare == (
        set() if case == "vit classifier" else expected_unused[case.split()[0].rstrip(",")]
    )


def test_parity_at_the_size_of_base():
    theirs = randomised(ViTModel, HuggingFaceViTConfig(layer_norm_eps=1e-6))
    config = VARIANTS["B/16"]
    plan = LoadPlan(
        config=config,
        key_map=huggingface_vit.key_map(config),
        preprocessing=Preprocessing(ResizeRule((224, 224)), HALF, HALF),
        unused=("pooler.*",),
    )
    translation = translate(theirs.state_dict(), plan, "memory")
    ours = build_strict(config, translation.tensors, "memory", translation.unexpected)
    images = torch.randn(1, 3, 224, 160)
    tokens, attentions, _, _, _ = run_theirs(theirs, images)
    assert tokens[:, 1:].std(dim=1).mean() > 0.3
    out = ours(images)
    assert largest_difference(out.cls_token, tokens[:, 0]) <= LIMIT
    assert largest_difference(out.patch_tokens, tokens[:, 1:]) <= LIMIT
    assert largest_difference(out.cls_attention, attentions[-1][:, :, 0, 1:]) <= LIMIT
