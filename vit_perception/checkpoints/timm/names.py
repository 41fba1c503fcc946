"""Names of timm's Vision Transformers. Meta's originals share most of them.

Source: https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py and
eva.py (DINOv3).
"""

from vit_perception.checkpoints.family import KeyMap, linear_and_norm_names
from vit_perception.model.vit_config import ViTConfig

SIGNATURE_KEYS = (
    "patch_embed.proj.weight",
    "blocks.0.norm1.weight",
    "blocks.0.attn.qkv.weight",
    "blocks.0.attn.proj.weight",
    "blocks.0.norm2.weight",
)
_QUERY_KEY_VALUE = ("attention.query", "attention.key", "attention.value")
BLOCK_LAYERS = {
    "norm1": ("norm_attention",),
    "attn.qkv": _QUERY_KEY_VALUE,
    "attn.proj": ("attention.output",),
    "norm2": ("norm_mlp",),
}
# By the first layer of the MLP. A matrix that holds both of a SwiGLU holds gate, then up.
MLPS = {
    "mlp.fc1_g": {"mlp.fc1_g": ("mlp.gate",), "mlp.fc1_x": ("mlp.up",), "mlp.fc2": ("mlp.down",)},
    "mlp.w12": {"mlp.w12": ("mlp.gate", "mlp.up"), "mlp.w3": ("mlp.down",)},
    "mlp.w1": {"mlp.w1": ("mlp.gate",), "mlp.w2": ("mlp.up",), "mlp.w3": ("mlp.down",)},
    "mlp.fc1": {"mlp.fc1": ("mlp.up",), "mlp.fc2": ("mlp.down",)},
}
_PACKED_SWIGLU = {"mlp.fc1": ("mlp.gate", "mlp.up"), "mlp.fc2": ("mlp.down",)}
_FACTORS = {
    "ls1.gamma": "scale_attention.factor",
    "gamma_1": "scale_attention.factor",
    "ls2.gamma": "scale_mlp.factor",
    "gamma_2": "scale_mlp.factor",
    "attn.q_bias": "attention.query.bias",
    "attn.v_bias": "attention.value.bias",
}
# timm's AttentionPoolLatent, of SigLIP.
_POOLING_LAYERS = {"q": ("query",), "kv": ("key", "value"), "proj": ("output",)}


def key_map(config: ViTConfig, mlp: str = "mlp.fc1") -> KeyMap:
    """Map every name that a file may use to the model's name; ``mlp`` is one of ``MLPS``."""
    layers = {
        "patch_embed.proj": ("patch_embedding.projection",),
        "norm": ("norm",),
        "fc_norm": ("norm",),
        "norm_pre": ("norm_before",),
        "head": ("head",),
        "head_dist": ("head_distillation",),
        "attn_pool.norm": ("attention_pooling.norm",),
        "attn_pool.mlp.fc1": ("attention_pooling.mlp.up",),
        "attn_pool.mlp.fc2": ("attention_pooling.mlp.down",),
    }
    for theirs, ours in _POOLING_LAYERS.items():
        targets = tuple(f"attention_pooling.attention.{part}" for part in ours)
        layers[f"attn_pool.{theirs}"] = targets
    names = {
        "cls_token": ("cls_token",),
        "dist_token": ("distillation_token",),
        "reg_token": ("register_tokens",),
        "register_tokens": ("register_tokens",),
        "storage_tokens": ("register_tokens",),
        "pos_embed": ("position_embedding",),
        "attn_pool.latent": ("attention_pooling.probe",),
    }
    is_packed = config.activation == "swiglu" and mlp == "mlp.fc1"
    block_layers = BLOCK_LAYERS | (_PACKED_SWIGLU if is_packed else MLPS[mlp])
    for index in range(config.depth):
        block = f"blocks.{index}"  # here the file and the model agree
        for layer, targets in block_layers.items():
            layers[f"{block}.{layer}"] = tuple(f"{block}.{target}" for target in targets)
        names |= {f"{block}.{name}": (f"{block}.{target}",) for name, target in _FACTORS.items()}
    return names | linear_and_norm_names(layers)
