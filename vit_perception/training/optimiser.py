"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with layer-wise learning rates, and the
schedule of the rate.

A rate that falls from layer to layer, towards the input, keeps what a pretrained model's first
layers know (arXiv:2106.08254, section 2).
"""

import math
import re

import torch

from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.training.recipe import Recipe


def make_optimiser(model: VisionTransformer, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over all parameters; each group's ``factor`` is what its learning rate is multiplied
    by.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decay = recipe.weight_decay if decays(name, parameter) else 0.0
        factor = recipe.layer_decay ** layers_below_the_head(name, model.config.depth)
        groups.setdefault((decay, factor), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": decay, "factor": factor, "lr": 0.0}
            for (decay, factor), members in groups.items()
        ]
    )


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay pulls the parameter to 0: matrices and kernels, not biases, norms and
    embeddings.
    """
    # Embeddings and learned tokens are the model's own parameters, or a pooling's learned query.
    return parameter.ndim > 1 and "." in name and not name.endswith("probe")


def layers_below_the_head(name: str, depth: int) -> int:
    """0 for the head and the final norm, 1 for the last block, ``depth`` + 1 for the embeddings."""
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        return depth - int(block[1])
    embeds = "." not in name or name.startswith(("patch_embedding.", "norm_before."))
    return depth + 1 if embeds else 0


def learning_rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The rate of ``step`` (from 0) of ``steps``: up linearly to the peak, then along a cosine
    towards 0.
    """
    warmup = max(1, round(recipe.warmup * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return (
        recipe.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """``rate`` for the head, and each group's share of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
