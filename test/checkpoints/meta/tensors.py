"""Names and shapes of Meta's files, written out: one block, 64 channels."""

import torch

WIDTH, PATCH, SIDE, HIDDEN = 64, 8, 32, 96
PATCHES = (SIDE // PATCH) ** 2


def backbone(**changes) -> dict[str, torch.Tensor]:
    """A DINO backbone; ``changes`` add names with their shapes, None leaves one out."""
    block = {
        "norm1.weight": (WIDTH,),
        "norm1.bias": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.qkv.bias": (3 * WIDTH,),
        "attn.proj.weight": (WIDTH, WIDTH),
        "attn.proj.bias": (WIDTH,),
        "norm2.weight": (WIDTH,),
        "norm2.bias": (WIDTH,),
        "mlp.fc1.weight": (HIDDEN, WIDTH),
        "mlp.fc1.bias": (HIDDEN,),
        "mlp.fc2.weight": (WIDTH, HIDDEN),
        "mlp.fc2.bias": (WIDTH,),
    }
    shapes = {f"blocks.0.{name}": shape for name, shape in block.items()}
    shapes |= {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, PATCHES + 1, WIDTH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    shapes = {name: shape for name, shape in (shapes | changes).items() if shape is not None}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def without_mlp() -> dict[str, None]:
    """Changes that take the plain MLP out."""
    return {
        f"blocks.0.mlp.{layer}.{part}": None
        for layer in ("fc1", "fc2")
        for part in ("weight", "bias")
    }
