"""One picture through a model, with a hook at every step: the shapes that really occur, and where
each head looks.

Equation numbers are those of Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1 and appendix
A.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.model.vision_transformer import VisionTransformer, ViTOutput
from vit_perception.model.vit_config import ATTENTION_POOLINGS
from vit_perception.viewing.measures import mean_attention_distance_px


@dataclass(frozen=True)
class Step:
    """One step of the way through the model: the shape that was measured there, and what it is."""

    name: str
    shape: tuple[int, ...]
    what: str


@dataclass(frozen=True, eq=False)
class Inside:
    """What was seen of one image.

    ``attention`` (heads, P) is that of the chosen block, asked by ``asked_by``: ``CLS token``,
    ``probe`` (attention pooling) or ``all patches`` (their mean, for a model that pools by mean or
    max). A row sums to less than 1 where other tokens than patches are attended to. ``distance_px``
    (depth, heads) is the mean attention distance.
    """

    steps: tuple[Step, ...]
    output: ViTOutput
    attention: np.ndarray
    asked_by: str
    distance_px: np.ndarray
    grid: tuple[int, int]
    block: int


def look_inside(
    model: VisionTransformer, images: Tensor, block: int = -1, dense: DenseHeadSpec | None = None
) -> Inside:
    """Run ``model``, and ``dense`` on it, on ``images`` (1, 3, H, W), normalised.

    ``block`` is as in the model's ``forward``. Raises ValueError for one that it does not have.
    """
    config, grid = model.config, model.config.grid_of(*images.shape[2:])
    if not -config.depth <= block < config.depth:
        raise InvalidValue(f"block is {block}; accepted: {-config.depth} to {config.depth - 1}")
    chosen = range(config.depth)[block]
    seen = _Seen(model, grid, chosen)
    # The last block is kept so that all blocks are run, whichever is looked at.
    with torch.inference_mode(), seen.watching():
        output = model(images, chosen, keep=(-1,))
    with torch.inference_mode():
        patches = functional.unfold(
            images, config.patch_size_px, stride=config.patch_size_px
        ).transpose(1, 2)
        map_shape = (
            dense.module(model.intermediate(images, dense.blocks, dense.norm), grid).shape
            if dense
            else ()
        )
    steps = [
        Step(
            "network input",
            tuple(images.shape),
            "resized by the model card, (x / 255 − mean) / std",
        ),
        Step("patches", tuple(patches.shape), "cut out, each flattened to 3 · patch²"),
        *seen.steps,
        *_steps_of_output(model, output),
    ]
    if dense is not None:
        steps.append(
            Step(
                dense.kind,
                tuple(map_shape),
                f"dense head on blocks {', '.join(map(str, dense.blocks))}",
            )
        )
    if config.cls_token:
        attention, asked_by = output.cls_attention[0], "CLS token"
    elif config.pooling in ATTENTION_POOLINGS:
        attention, asked_by = output.cls_attention[0], "probe"
    else:
        attention, asked_by = seen.asked_by_patches, "all patches"
    return Inside(
        tuple(dict.fromkeys(steps)),
        output,
        attention.float().numpy(),
        asked_by,
        np.stack(seen.distance_px),
        grid,
        chosen,
    )


def _steps_of_output(model: VisionTransformer, output: ViTOutput) -> Iterator[Step]:
    config = model.config
    if config.cls_token:
        yield Step("CLS token", tuple(output.cls_token.shape), "what stands for the whole picture")
    yield Step("patch tokens", tuple(output.patch_tokens.shape), "what stands for each place")
    if config.pooling != "cls" or config.head != "none":
        what = {
            "cls": "the CLS token",
            "cls_mean": "CLS and mean patch token, side by side",
            "cls_set": "CLS tokens, side by side",
            "map": "what the probe brought back",
            "map_all": "what the probe brought back",
        }.get(config.pooling, f"{config.pooling} of the patch tokens")
        yield Step("pooled", tuple(output.pooled.shape), what)
    if output.logits is not None:
        what = {
            "distilled": "mean of two heads: on CLS and on the distillation token",
            "linear_tanh_linear": "head: linear, tanh, linear",
        }.get(config.head, "head: one linear layer")
        yield Step("logits", tuple(output.logits.shape), what)


class _Seen:
    """The hooks, and what they have seen."""

    def __init__(self, model: VisionTransformer, grid: tuple[int, int], chosen: int):
        self.model, self.grid, self.chosen = model, grid, chosen
        self.steps: list[Step] = []
        self.distance_px: list[np.ndarray] = []
        self.asked_by_patches: Tensor | None = None
        self._follower = _Follower()
        self._block_shapes: list[tuple[int, ...]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        model, block = self.model, self.model.blocks[self.chosen]
        with ExitStack() as stack:

            def watch(module: nn.Module, hook: Callable[..., None]) -> None:
                stack.callback(module.register_forward_hook(hook).remove)

            watch(model.patch_embedding, self._embedded)
            watch(model.norm_before, self._ready)
            for index, layer in enumerate(model.blocks):
                watch(layer.attention, lambda *call, index=index: self._attended(index, *call))
                watch(layer, lambda *call, index=index: self._left(index, *call))
            watch(
                block.attention.query,
                self._step(
                    f"block {self.chosen} · q, k, v",
                    "each of the three; heads share the width (eq. 5)",
                ),
            )
            watch(
                block.mlp.up, self._step(f"block {self.chosen} · MLP", "its hidden layer (eq. 3)")
            )
            if not isinstance(model.norm, nn.Identity):
                watch(model.norm, self._step("final norm", "LayerNorm (eq. 4)"))
            if model.attention_pooling is not None:
                watch(
                    model.attention_pooling,
                    self._step("attention pooling", "a learned probe asks all patches"),
                )
            stack.enter_context(self._follower)
            yield

    def _step(self, name: str, what: str) -> Callable[..., None]:
        return lambda module, args, result: self._add(
            name, result[0] if isinstance(result, tuple) else result, what
        )

    def _add(self, name: str, tensor: Tensor, what: str) -> None:
        self.steps.append(Step(name, tuple(tensor.shape), what))

    def _embedded(self, module: nn.Module, args: tuple, tokens: Tensor) -> None:
        self._add("embedding", tokens, "one linear map of each patch (eq. 1)")
        self._follower.follow(tokens)

    def _ready(self, module: nn.Module, args: tuple, tokens: Tensor) -> None:
        config, follower = self.model.config, self._follower
        changes = []
        if config.prefix_tokens:
            changes.append(
                ("+ CLS, distillation", "two learned tokens in front")
                if config.distillation_token
                else ("+ CLS", "a learned token in front (eq. 1)")
            )
        if config.position_embedding == "learned":
            changes.append(("+ position", "a learned vector for each place (eq. 1)"))
        if config.register_tokens:
            changes.append(
                ("+ registers", f"{config.register_tokens} learned tokens without a place")
            )
        for (name, what), shape in zip(changes, follower.stop(), strict=True):
            self.steps.append(Step(name, shape, what))
        if config.norm_before_blocks:
            self._add("norm before blocks", tokens, "LayerNorm (CLIP)")
        rotation = self.model.rotation_for(self.grid)
        if rotation is not None:
            self._add("RoPE", rotation.cos, "turns queries and keys by place, in every block")

    def _attended(self, index: int, module: nn.Module, args: tuple, result: Any) -> None:
        tokens, _, rotation, mask = args
        weights = module.weights(tokens, rotation, mask)[0]  # (heads, N, N)
        first = self.model.first_patch
        among_patches = weights[:, first:, first:]
        self.distance_px.append(
            mean_attention_distance_px(among_patches, self.grid, self.model.config.patch_size_px)
        )
        if index == self.chosen:
            self._add(
                f"block {index} · attention",
                weights[None],
                "softmax(q k / √d): who looks at whom (eq. 6)",
            )
            self.asked_by_patches = among_patches.mean(dim=1)

    def _left(
        self, index: int, module: nn.Module, args: tuple, result: tuple[Tensor, Tensor | None]
    ) -> None:
        # One row for all blocks: none changes the shape, which is what lets them be stacked.
        self._block_shapes.append(tuple(result[0].shape))
        if index == len(self.model.blocks) - 1:
            shapes, last = set(self._block_shapes), len(self.model.blocks) - 1
            what = f"{last + 1} × attention and MLP, each added (eq. 2, 3)"
            self.steps.extend(
                Step(f"blocks 0 – {last}" if last else "block 0", shape, what) for shape in shapes
            )


class _Follower(TorchFunctionMode):
    """Follows the patch tokens through what the model does to them outside of any module: ``cat``
    and ``+``.
    """

    def __init__(self):
        super().__init__()
        self._parts: list[Tensor] = []
        self._shapes: list[tuple[int, ...]] = []

    def follow(self, tokens: Tensor) -> None:
        self._parts, self._shapes = [tokens], []

    def stop(self) -> list[tuple[int, ...]]:
        """The shapes that the tokens had on the way, in order."""
        self._parts = []
        return self._shapes

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._parts and func.__name__ in ("cat", "add", "__add__", "__getitem__"):
            operands = args[0] if func.__name__ == "cat" else args
            if any(operand is part for operand in operands for part in self._parts):
                self._parts.append(result)
                if func.__name__ != "__getitem__":
                    self._shapes.append(tuple(result.shape))
        return result
