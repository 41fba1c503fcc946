"""Multi-head attention pooling: one learned query over all patch tokens (Zhai et al. 2022,
arXiv:2106.04560).

SigLIP (arXiv:2303.15343) uses it in place of a CLS token, the Perception Encoder (arXiv:2504.13181)
over CLS and patch tokens.
"""

import torch
from torch import Tensor, nn

from vit_perception.model.layers import Attention, Mlp, norm_of
from vit_perception.model.vit_config import ViTConfig


class AttentionPooling(nn.Module):
    """Tokens (B, N, D) to a pooled vector (B, D) and the query's attention (B, heads, N)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, config.width))
        nn.init.trunc_normal_(self.probe, std=0.02)
        heads = config.pooling_heads or config.heads
        self.attention = Attention(config.width, heads, qkv_bias=True)
        self.norm = norm_of(config)
        hidden = config.pooling_mlp_width or config.mlp_width
        self.mlp = Mlp(config.width, hidden, config.activation)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        pooled, weights = self.attention.attend(self.probe, tokens)
        pooled = pooled + self.mlp(self.norm(pooled))  # (B, 1, D)
        return pooled[:, 0], weights[:, :, 0]
