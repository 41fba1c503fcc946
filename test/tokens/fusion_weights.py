"""A cross-attention file with random weights, for tests alone: the package refuses untrained
ones.
"""

import torch
from safetensors.torch import save_file


def cross_attention_tensors(
    width: int, queries: int = 2, layers: int = 2, hidden: int = 24, seed: int = 0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    tensors = {
        "queries": normal(queries, width),
        "norm.weight": 1 + normal(width),
        "norm.bias": normal(width),
    }
    for index in range(layers):
        prefix = f"layers.{index}."
        for norm in ("norm_queries", "norm_tokens", "norm_mlp"):
            tensors[f"{prefix}{norm}.weight"], tensors[f"{prefix}{norm}.bias"] = (
                1 + normal(width),
                normal(width),
            )
        tensors.update(
            {
                prefix + "attention.in_proj_weight": normal(3 * width, width),
                prefix + "attention.in_proj_bias": normal(3 * width),
                prefix + "attention.out_proj.weight": normal(width, width),
                prefix + "attention.out_proj.bias": normal(width),
                prefix + "mlp.fc1.weight": normal(hidden + index, width),
                prefix + "mlp.fc1.bias": normal(hidden + index),
                prefix + "mlp.fc2.weight": normal(width, hidden + index),
                prefix + "mlp.fc2.bias": normal(width),
            }
        )
    return tensors


def write_cross_attention(path, tensors: dict[str, torch.Tensor], heads: str | None = "4") -> str:
    save_file(tensors, str(path), metadata=None if heads is None else {"heads": heads})
    return str(path)
