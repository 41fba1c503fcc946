"""GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) and its two approximations."""

import torch
from torch import Tensor
from torch.nn import functional


def quick_gelu(x: Tensor) -> Tensor:
    """Compute x · sigmoid(1.702 x), the approximation that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute GELU by its tanh approximation, which JAX models were trained with."""
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": functional.gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}
