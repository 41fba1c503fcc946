"""The encoder graph as an ONNX file: what every engine but torch compiles."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from vit_perception.model.encoder_graph import EncoderGraph
from vit_perception.model.layers import explicit_attention

# 17 is the first with LayerNormalization, 18 the first that torch's exporter writes; a higher one gains nothing here.
OPSET = 18
INPUT_NAME = "images"


def export_onnx(graph: EncoderGraph, batch: int, path: Path) -> None:
    """Write ``graph`` (float32) for a static ``batch`` to ``path``, and its weights to ``<path>.data`` beside it.

    The input is ``images`` uint8 (batch, 3, H, W), the outputs are ``graph.output_names``. Attention is plain
    MatMul, Softmax, MatMul and each norm one LayerNormalization node, the shapes that compilers know to fuse.
    The weights are a file of their own at any size: a protobuf may not exceed 2 GB, which ViT-H does.

    Raises OSError when the files cannot be written, and ValueError when the graph is not float32.
    """
    dtypes = {parameter.dtype for parameter in graph.parameters()}
    if dtypes != {torch.float32}:
        raise ValueError(f"the graph's parameters are {dtypes}; accepted: float32 (an engine sets its own precision)")
    device = next(graph.parameters()).device
    images = torch.zeros(batch, 3, *graph.network_size_px, dtype=torch.uint8, device=device)
    with explicit_attention(graph), _quiet_exporter():
        program = torch.onnx.export(graph, (images,), input_names=[INPUT_NAME], output_names=list(graph.output_names),
                                    opset_version=OPSET, dynamo=True, verbose=False)
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, four fifths of this file, with the paths of the installation
    program.save(path, external_data=True)
    onnx.checker.check_model(str(path))


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's warnings about torchvision and about its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
