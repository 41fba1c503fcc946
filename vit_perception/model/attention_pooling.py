"""Multi-head attention pooling: one learned probe asks all patch tokens (Zhai et al. 2022,
arXiv:2106.04560).

SigLIP (arXiv:2303.15343) has it in place of a CLS token.
"""

import torch
from torch import Tensor, nn

from vit_perception.model.layers import Attention, Mlp


class AttentionPooling(nn.Module):
    """Tokens (B, P, D) to the pooled vector (B, D) and the probe's attention over the tokens (B,
    heads, P).
    """

    def __init__(self, width: int, heads: int, mlp_width: int, activation: str, norm_eps: float):
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.probe, std=0.02)
        self.attention = Attention(width, heads, qkv_bias=True)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, activation)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        pooled, weights = self.attention.ask(self.probe, tokens)
        pooled = pooled + self.mlp(self.norm(pooled))  # (B, 1, D)
        return pooled[:, 0], weights[:, :, 0]
