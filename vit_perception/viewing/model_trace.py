"""One image's way through a model: the shape after each step, and what each head attends to.

Shapes and weights are recorded by hooks while the model runs, so nothing is said that was not
measured. Equation numbers are those of Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1 and
appendix A.
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
    """One step of the way through the model."""

    # As people call it, for example ``patches``.
    name: str
    # As measured there.
    shape: tuple[int, ...]
    # One line that says what the step is.
    what: str


@dataclass(frozen=True, eq=False)
class ModelTrace:
    """What was recorded of one image."""

    # In the order of the computation.
    steps: tuple[Step, ...]
    # What the model returned.
    output: ViTOutput
    # (heads, P) float32: attention of the chosen block to the patches. A row sums to less than 1
    # if other tokens are attended to as well.
    attention: np.ndarray
    # Whose query it is: ``CLS token``, ``probe`` (attention pooling), or ``all patches``: their
    # mean, for a model that pools by mean or maximum.
    asked_by: str
    # (depth, heads) float32: mean attention distance in network pixels.
    distance_px: np.ndarray
    # (rows, columns) of patches.
    grid: tuple[int, int]
    # The index of the chosen block, from 0.
    block: int


def trace_model(
    model: VisionTransformer, images: Tensor, block: int = -1, dense: DenseHeadSpec | None = None
) -> ModelTrace:
    """Run ``model``, and ``dense`` on it, on ``images`` (1, 3, H, W) float32, normalised.

    ``block`` counts as in the model's ``forward``: -1 is the last one. Every block is run,
    whichever is chosen.

    Raises:
        InvalidValue: The model has no such block.
    """
    config = model.config
    grid = model.config.grid_of(*images.shape[2:])
    if not -config.depth <= block < config.depth:
        raise InvalidValue(f"block is {block}; accepted: {-config.depth} to {config.depth - 1}")
    chosen = range(config.depth)[block]
    recorder = _Recorder(model, grid, chosen)
    # The last block is kept so that all blocks are run, whichever is chosen.
    with torch.inference_mode(), recorder.watching():
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
        *recorder.steps,
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
        attention = output.cls_attention[0]
        asked_by = "CLS token"
    elif config.pooling in ATTENTION_POOLINGS:
        attention = output.cls_attention[0]
        asked_by = "probe"
    else:
        attention = recorder.asked_by_patches
        asked_by = "all patches"
    return ModelTrace(
        steps=tuple(dict.fromkeys(steps)),
        output=output,
        attention=attention.float().numpy(),
        asked_by=asked_by,
        distance_px=np.stack(recorder.distance_px),
        grid=grid,
        block=chosen,
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


class _Recorder:
    """The hooks on a model, and what they have recorded."""

    def __init__(self, model: VisionTransformer, grid: tuple[int, int], chosen: int):
        self.model = model
        self.grid = grid
        self.chosen = chosen
        self.steps: list[Step] = []
        self.distance_px: list[np.ndarray] = []
        self.asked_by_patches: Tensor | None = None
        self._follower = _TokenFollower()
        self._block_shapes: list[tuple[int, ...]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        model = self.model
        block = self.model.blocks[self.chosen]
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
        config = self.model.config
        follower = self._follower
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
            shapes = set(self._block_shapes)
            last = len(self.model.blocks) - 1
            what = f"{last + 1} × attention and MLP, each added (eq. 2, 3)"
            self.steps.extend(
                Step(f"blocks 0 – {last}" if last else "block 0", shape, what) for shape in shapes
            )


class _TokenFollower(TorchFunctionMode):
    """Follows the patch tokens through ``cat`` and ``+``, which are not in any module."""

    def __init__(self):
        super().__init__()
        self._parts: list[Tensor] = []
        self._shapes: list[tuple[int, ...]] = []

    def follow(self, tokens: Tensor) -> None:
        self._parts = [tokens]
        self._shapes = []

    def stop(self) -> list[tuple[int, ...]]:
        """Return the shapes that the tokens had on the way, in order."""
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
