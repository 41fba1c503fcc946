"""The reference for engines: the encoder graph in float32, run by torch on the CPU."""

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from vit_perception.engines.encoder_graph import GRAPH_VERSION, EncoderGraph
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    from vit_perception.checkpoints.sources import LoadedModel


def graph_of(loaded: "LoadedModel", block: int = -1, dense: bool = False) -> EncoderGraph:
    """Return the encoder graph of a checkpoint, with the model card's normalisation and size.

    With ``dense`` it also gives the tokens that the checkpoint's dense head takes.
    """
    card = loaded.card
    head = (loaded.dense.blocks, loaded.dense.norm) if dense else ()
    return EncoderGraph(loaded.model, card.mean, card.std, card.rule.network_size_px, block, *head)


def graph_key(graph: EncoderGraph) -> dict:
    """Return what the graph's outputs depend on, for JSON.

    This is the digest of the weights, the configuration, size, block and version. The digest is of
    the tensors in the graph, not of the checkpoint's file. So it also changes with the code that
    reads the checkpoint, and with the card's normalisation. It takes about 0.6 s per GB of weights.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(graph.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    # Only if there are some, so that engines without a dense head keep their keys.
    dense = (
        {"dense_blocks": list(graph.dense_blocks), "dense_norm": graph.dense_norm}
        if graph.dense_blocks
        else {}
    )
    return {
        "weights_sha256": digest.hexdigest(),
        "config": asdict(graph.model.config),
        "network_size_px": list(graph.network_size_px),
        "block": graph.block,
        "graph_version": GRAPH_VERSION,
        **dense,
    }


def encoder_digest(loaded: "LoadedModel", block: int = -1) -> str:
    """Return a digest of all that features depend on, except the engine: heads are bound to it.

    It covers the graph's key (weights, configuration, normalisation, size, block, version) and how
    images are resized. It takes about 1 s per GB of weights.
    """
    key = graph_key(graph_of(loaded, range(loaded.model.config.depth)[block]))
    parts = {"graph": key, "rule": asdict(loaded.card.rule)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def reference_outputs(graph: EncoderGraph, images: np.ndarray) -> EncoderOutput:
    """Run ``graph`` in float32 on ``images`` (n, 3, H, W) uint8, one image at a time.

    The arrays that it returns are read-only.
    """
    with torch.inference_mode():
        runs = [graph(torch.from_numpy(images[i : i + 1])) for i in range(len(images))]
    outputs = {
        name: torch.cat(parts).numpy() for name, parts in zip(graph.output_names, zip(*runs))
    }
    for array in outputs.values():
        array.flags.writeable = False
    return EncoderOutput(**outputs)
