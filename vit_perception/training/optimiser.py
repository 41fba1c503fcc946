"""AdamW with learning rates by layer, and the schedule of the rate.

AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101. A rate that falls from layer to layer towards
the input keeps what a pretrained model's first layers know (arXiv:2106.08254, section 2).
"""

import math
import re

import torch

from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.training.recipe import Recipe


def make_optimiser(model: VisionTransformer, recipe: Recipe) -> torch.optim.AdamW:
    """Make AdamW over all parameters; each group's ``factor`` multiplies its learning rate.

    A layer k below the head has the factor ``layer_decay`` ** k.
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
    """Whether weight decay applies: to matrices and kernels, not to biases and embeddings."""
    # Embeddings and learned tokens are the model's own parameters, or a pooling's learned query.
    return parameter.ndim > 1 and "." in name and not name.endswith("probe")


def layers_below_the_head(name: str, depth: int) -> int:
    """Return 0 for head and final norm, 1 for the last block, ``depth`` + 1 for embeddings."""
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        return depth - int(block[1])
    embeds = "." not in name or name.startswith(("patch_embedding.", "norm_before."))
    return depth + 1 if embeds else 0


def learning_rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the rate of ``step`` (from 0) of ``steps``.

    It rises linearly to the peak over the warm-up, then falls to 0 along a cosine.
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
    """Set ``rate`` for the head, and its share of it for each group."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
