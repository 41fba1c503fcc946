"""What an engine compiles: a model fixed to one input size, fed with raw uint8 pixels."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from vit_perception.heads.connectors import Connector
from vit_perception.model.layers import PatchEmbedding
from vit_perception.model.second_encoder import SecondEncoder
from vit_perception.model.vision_transformer import VisionTransformer

# Part of the engine cache's key: raise it when the same weights would give another graph.
GRAPH_VERSION = 1


class EncoderGraph(nn.Module):
    """The encoder from uint8 pixels to float32 tokens, for one size.

    ``forward`` takes RGB images (B, 3, H, W) uint8 of ``network_size_px``. It returns the tensors
    that ``output_names`` lists, in this order: ``cls_token`` (B, D), ``patch_tokens`` (B, P, D),
    ``cls_attention`` (B, heads, P); ``logits`` (B, classes) if the model has a head;
    ``block_tokens`` (B, K, N, D) with K ``dense_blocks``, all tokens of those blocks, after the
    final norm with ``dense_norm``.

    With a ``connector`` these are the tokens after it: ``patch_tokens`` (B, T, E) as the policy's
    language model takes them, ``cls_token`` (B, E) their mean, ``cls_attention`` (B, heads, T). The
    patch tokens of a ``second`` encoder on the same pixels, with its own normalisation, stand next
    to the first's before the connector. The attention stays the first's.

    The pixels become (x − 127.5) / 127.5. The rest of the normalisation is folded into the patch
    embedding. Folding all of 1 / (255 std) would make 45 % of the float16 weights subnormal, with
    an error of 0.67 on devices that flush subnormal values to zero. The position embedding is
    interpolated here once, so the graph has no resize, and rotary positions are tables. Everything
    runs in the dtype of the parameters (``graph.to(torch.bfloat16)``); outputs are float32.

    The model's modules are copied and its weights are shared. So neither the folding nor a change
    of dtype reaches the given model, and there is no second copy in memory. For an export, wrap the
    call in :func:`vit_perception.model.layers.explicit_attention`.
    """

    def __init__(
        self,
        model: VisionTransformer,
        mean: Sequence[float],
        std: Sequence[float],
        network_size_px: tuple[int, int],
        block: int = -1,
        dense_blocks: Sequence[int] = (),
        dense_norm: bool = False,
        connector: Connector | None = None,
        second: SecondEncoder | None = None,
    ):
        super().__init__()
        self.grid = model.config.grid_of(*network_size_px)
        self.model = _fixed(model, mean, std, network_size_px)
        self.second = None
        if second is not None:
            self.second = _fixed(second.model, second.mean, second.std, network_size_px)
        self.connector = connector if connector is None else _copied(connector, lambda x: x)
        self.network_size_px = tuple(network_size_px)
        self.block = block
        self.dense_blocks = tuple(dense_blocks)
        self.dense_norm = dense_norm
        self.output_names = (
            ("cls_token", "patch_tokens", "cls_attention")
            + (("logits",) if model.head else ())
            + (("block_tokens",) if dense_blocks else ())
        )
        self.eval()

    def copied_to(self, device: torch.device, dtype: torch.dtype) -> "EncoderGraph":
        """Copy the graph; each weight is copied once, to its new device and precision."""
        return _copied(self, lambda tensor: tensor.to(device, dtype, copy=True))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = (images.to(torch.float32) - 127.5) / 127.5
        dtype = self.model.patch_embedding.projection.weight.dtype
        output = self.model(pixels.to(dtype), self.block, self.dense_blocks, self.dense_norm)
        if self.second is not None:
            beside = self.second(pixels.to(dtype)).patch_tokens
            patches = torch.cat([output.patch_tokens, beside], dim=2)  # (B, P, D + D')
            output = output._replace(patch_tokens=patches)
        if self.connector is not None:
            connected = self.connector.connect(output.patch_tokens, output.cls_attention, self.grid)
            output = output._replace(**connected._asdict())
        return tuple(getattr(output, name).to(torch.float32) for name in self.output_names)


def _fixed(
    model: VisionTransformer,
    mean: Sequence[float],
    std: Sequence[float],
    network_size_px: tuple[int, int],
) -> VisionTransformer:
    """Copy ``model``, fixed to one input size, for pixels that are (x − 127.5) / 127.5."""
    grid = model.config.grid_of(*network_size_px)
    fixed = _copied(model, lambda tensor: tensor)
    if model.position_embedding is not None:
        positions = model.positions_for(grid).detach().clone()
        fixed.position_embedding = nn.Parameter(positions, requires_grad=False)
    fixed.fix_grid(grid)
    fixed.config = replace(model.config, image_size_px=tuple(network_size_px))
    fold_normalisation(fixed.patch_embedding, mean, std)
    return fixed


def fold_normalisation(
    patch_embedding: PatchEmbedding, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Change the input of the projection from (x / 255 − mean) / std to u = (x − 127.5) / 127.5.

    x / 255 is (u + 1) / 2, so the former input is u · 0.5 / std + (0.5 − mean) / std.
    """
    projection = patch_embedding.projection
    weight = projection.weight.double()  # (D, 3, patch, patch)
    scale = torch.tensor([0.5 / s for s in std], dtype=torch.float64, device=weight.device)
    offset = torch.tensor(
        [(0.5 - m) / s for m, s in zip(mean, std, strict=True)],
        dtype=torch.float64,
        device=weight.device,
    )
    bias = projection.bias.double() + torch.einsum("dcyx,c->d", weight, offset)
    # New parameters, because another model may share the given ones.
    folded = weight * scale[:, None, None]
    dtype = projection.weight.dtype
    projection.weight = nn.Parameter(folded.detach().to(dtype), requires_grad=False)
    projection.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)


_Module = TypeVar("_Module", bound=nn.Module)


def _copied(module: _Module, take: Callable[[Tensor], Tensor]) -> _Module:
    """Copy ``module`` for inference; ``take`` gives the copy of each parameter and buffer."""
    memo: dict[int, Tensor] = {id(buffer): take(buffer) for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(take(parameter.data), requires_grad=False)
    return copy.deepcopy(module, memo)
