"""CLIP models of transformers, renamed to OpenAI's names: the same weights under both."""

import torch
from transformers import CLIPConfig, CLIPModel

from test.checkpoints.huggingface.models import randomised

VISION = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def whole_model(hidden_act: str = "quick_gelu", **vision) -> CLIPModel:
    """A random CLIP of transformers."""
    return randomised(
        CLIPModel,
        CLIPConfig(
            vision_config={**VISION, "hidden_act": hidden_act, **vision},
            text_config=TEXT,
            projection_dim=20,
        ),
    ).requires_grad_(False)


def openai_names(
    model: CLIPModel, depth: int = VISION["num_hidden_layers"]
) -> dict[str, torch.Tensor]:
    """Its weights by the names of clip/model.py: both towers' ``resblocks``, in_proj stacked,
    projections (D, E).
    """
    theirs, named = model.state_dict(), {}

    def put(ours: str, name: str) -> None:
        for part in ("weight", "bias"):
            named[f"{ours}.{part}"] = theirs[f"{name}.{part}"].clone()

    for tower, prefix, blocks in (
        ("vision_model", "visual.", depth),
        ("text_model", "", TEXT["num_hidden_layers"]),
    ):
        for n in range(blocks):
            block, ours = f"{tower}.encoder.layers.{n}", f"{prefix}transformer.resblocks.{n}"
            for name, layer in _BLOCK.items():
                put(f"{ours}.{name}", f"{block}.{layer}")
            for part in ("weight", "bias"):
                named[f"{ours}.attn.in_proj_{part}"] = torch.cat(
                    [theirs[f"{block}.self_attn.{x}_proj.{part}"] for x in "qkv"]
                )
    put("visual.ln_pre", "vision_model.pre_layrnorm")
    put("visual.ln_post", "vision_model.post_layernorm")
    put("ln_final", "text_model.final_layer_norm")
    for ours, name in (
        ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
        ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("logit_scale", "logit_scale"),
    ):
        named[ours] = theirs[name].clone()
    named["visual.proj"] = theirs["visual_projection.weight"].T.clone()
    named["text_projection"] = theirs["text_projection.weight"].T.clone()
    return named


class Holder(torch.nn.Module):
    """A module of nothing but named tensors, nested by their dots, which TorchScript can compile
    and save.
    """

    def __init__(self, tensors: dict[str, torch.Tensor]):
        super().__init__()
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if rest:
                parts.setdefault(first, {})[rest] = tensor
            else:
                self.register_buffer(first, tensor)
        for first, held in parts.items():
            self.add_module(first, Holder(held))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image
