"""Real weights in each precision against the parity gate, and how near their largest values come to
float16's end.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.parity_gate import parity_batch
from vit_perception.engines.source import EngineSource
from vit_perception.image.preprocess import Preprocessor
from vit_perception.model.layers import Attention, Block, explicit_attention

FLOAT16_LARGEST = 65504.0


def run(machine: Machine, note: Note) -> None:
    """Each runtime and precision; and, in float32, the largest values of the four pictures."""
    loaded = machine.real()
    source = machine.source(loaded, 1)
    for runtime, precision in machine.each():
        note.attempt(
            f"{runtime.label} {precision}: the gate",
            partial(_gate, machine, note, runtime, precision, loaded, source),
        )
    note.attempt(
        "the largest values",
        partial(
            _largest, machine, note, source.graph, parity_batch(Preprocessor(loaded.card.rule), 1)
        ),
    )


def _gate(
    machine: Machine,
    note: Note,
    runtime: Runtime,
    precision: str,
    loaded: LoadedModel,
    source: EngineSource,
) -> None:
    label = f"{runtime.label} {precision}"
    with machine.opened(runtime, loaded, 1, precision, source) as opened:
        note.figure(
            f"{label}: parity", {"attention": opened.spec.attention, **asdict(opened.report)}
        )
        note.check(True, f"{label}: {loaded.card.name} passes the gate", opened.report)


def _largest(machine: Machine, note: Note, graph: EncoderGraph, pictures: np.ndarray) -> None:
    values = largest_values(
        copy.deepcopy(graph).to(machine.device), torch.from_numpy(pictures).to(machine.device)
    )
    note.figure("largest values", {**values, "float16": FLOAT16_LARGEST})
    note.check(
        all(value < FLOAT16_LARGEST for value in values.values()),
        "float16 holds every value",
        values,
    )


def largest_values(graph: EncoderGraph, images: Tensor) -> dict[str, float]:
    """The largest absolute values that ``graph`` (float32) has inside for ``images`` (n, 3, H, W)
    uint8.

    ``attention_logit``, a query times a key, before the softmax; ``residual``, what the blocks add
    to; ``mlp``, behind the activation; ``class_logit`` where there is a head.
    """
    found: dict[str, float] = {}

    def see(name: str, tensor: Tensor) -> None:
        found[name] = max(found.get(name, 0.0), float(tensor.abs().max()))

    with torch.no_grad(), explicit_attention(graph), _seen(graph, see):
        for image in images:
            outputs = dict(zip(graph.output_names, graph(image[None]), strict=True))
            if "logits" in outputs:
                see("class_logit", outputs["logits"])
    return found


@contextmanager
def _seen(graph: EncoderGraph, see) -> Iterator[None]:
    """While entered, ``see`` is shown (name, tensor) of every block's inside."""
    handles, attentions = [], [part for part in graph.modules() if isinstance(part, Attention)]
    for block in (part for part in graph.modules() if isinstance(part, Block)):
        for part, name in (
            (block.norm_attention, "residual"),
            (block.norm_mlp, "residual"),
            (block.mlp.down, "mlp"),
        ):
            handles.append(
                part.register_forward_pre_hook(lambda _, given, name=name: see(name, given[0]))
            )
        handles.append(
            block.register_forward_hook(lambda _, given, output: see("residual", output[0]))
        )
    for attention in attentions:

        def weights(
            query: Tensor,
            key: Tensor,
            mask: Tensor | None = None,
            attention: Attention = attention,
        ) -> Tensor:
            see("attention_logit", (query * attention.scale) @ key.transpose(2, 3))
            return type(attention)._weights(attention, query, key, mask)

        attention._weights = weights
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for attention in attentions:
            del attention._weights
