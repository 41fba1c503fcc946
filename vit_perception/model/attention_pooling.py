"""Multi-head attention pooling: one learned query over all patch tokens (Zhai et al. 2022,
arXiv:2106.04560).

SigLIP (arXiv:2303.15343) uses it in place of a CLS token.
"""

import torch
from torch import Tensor, nn

from vit_perception.model.layers import Attention, Mlp
from vit_perception.model.vit_config import ViTConfig


class AttentionPooling(nn.Module):
    """Tokens (B, P, D) to a pooled vector (B, D) and the query's attention (B, heads, P)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, config.width))
        nn.init.trunc_normal_(self.probe, std=0.02)
        self.attention = Attention(config.width, config.heads, qkv_bias=True)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width, config.activation)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        pooled, weights = self.attention.attend(self.probe, tokens)
        pooled = pooled + self.mlp(self.norm(pooled))  # (B, 1, D)
        return pooled[:, 0], weights[:, :, 0]
