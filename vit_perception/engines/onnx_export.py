"""The encoder graph as an ONNX file: what every engine but torch compiles."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.files.errors import InvalidValue
from vit_perception.model.layers import ATTENTION_FORMS, PatchEmbedding, explicit_attention

# 17 is the first with LayerNormalization, 18 the first that torch's exporter writes; a higher one
# gains nothing here.
OPSET = 18
INPUT_NAME = "images"
BATCH_NAME = "batch"  # the symbolic dimension of a dynamic batch
PRECISIONS = ("float32", "float16", "bfloat16")


def export_onnx(
    graph: EncoderGraph,
    batch: int | None,
    path: Path,
    precision: str = "float32",
    attention: str = "half",
) -> None:
    """Write ``graph`` (float32) in ``precision`` to ``path``, and its weights to ``<path>.data``.

    The input is ``images`` (batch, 3, H, W) uint8. The outputs are ``graph.output_names``, float32.
    Weights and matrix products are in ``precision``. Each norm is one LayerNormalization node,
    which sums in float32. Attention is MatMul, Softmax, MatMul, which compilers know to fuse. In
    half precision, ``attention`` ``half`` has no cast, ``float32_softmax`` has one pair around the
    softmax, and ``float32`` runs all of it in float32.

    With ``batch`` None the batch is open, a dimension named ``batch``. This costs a Shape and two
    Expand nodes; a static graph computes no shapes. The weights are always a separate file, because
    a protobuf may not exceed 2 GB, which ViT-H does.

    Raises:
        OSError: The files cannot be written.
        ValueError: The graph is not float32, or ``precision`` or ``attention`` does not exist.
        InvalidValue: ``precision`` cannot hold a weight.
    """
    if precision not in PRECISIONS:
        raise InvalidValue(f"precision is {precision!r}; accepted: {', '.join(PRECISIONS)}")
    if attention not in ATTENTION_FORMS:
        raise InvalidValue(f"attention is {attention!r}; accepted: {', '.join(ATTENTION_FORMS)}")
    dtypes = {parameter.dtype for parameter in graph.parameters()}
    if dtypes != {torch.float32}:
        raise ValueError(
            f"the graph's parameters are {dtypes}; accepted: float32 (the file gets its own "
            "precision)"
        )
    if not path.parent.is_dir():  # the exporter would find out after some seconds
        raise FileNotFoundError(
            f"{path.parent} is not a folder: {path.name} cannot be written there"
        )
    narrowed = in_precision(graph, precision)
    # The exporter makes dimensions of size 1 static, so an open batch is traced with 2.
    images = torch.zeros(
        batch or 2,
        3,
        *graph.network_size_px,
        dtype=torch.uint8,
        device=next(graph.parameters()).device,
    )
    open_batch = None if batch else ({0: torch.export.Dim(BATCH_NAME, min=1)},)
    with explicit_attention(narrowed, attention), quiet_exporter():
        program = torch.onnx.export(
            narrowed,
            (images,),
            input_names=[INPUT_NAME],
            dynamo=True,
            verbose=False,
            output_names=list(graph.output_names),
            opset_version=OPSET,
            dynamic_shapes=open_batch,
        )
    for node in program.model.graph:
        # stack traces, four fifths of this file, with the paths of the installation
        node.metadata_props.clear()
    program.save(path, external_data=True)
    onnx.checker.check_model(str(path))


def in_precision(graph: EncoderGraph, precision: str) -> EncoderGraph:
    """Return ``graph`` for float32, else a copy in ``precision``, with operators that ONNX has.

    Raises:
        InvalidValue: ``precision`` turns a weight into infinity; the message names the tensor.
    """
    if precision == "float32":
        return graph
    narrowed = copy.deepcopy(graph).to(getattr(torch, precision))
    for part in narrowed.modules():
        if isinstance(part, PatchEmbedding):
            part.unfolded = precision == "bfloat16"
    for name, parameter in narrowed.named_parameters():
        if not torch.isfinite(parameter).all():
            largest = graph.get_parameter(name).abs().max().item()
            raise InvalidValue(
                f"{name} holds {largest:.3g}, which {precision} cannot (its largest is "
                f"{torch.finfo(parameter.dtype).max:.5g}); use bfloat16 or float32"
            )
    return narrowed


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's warnings about torchvision and about its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
