"""int8 for OpenVINO: NNCF's post-training quantisation, calibrated on the robot's own images.

The attempts have a fixed order. Each leaves more layers in floating point than the one before, and
the first that passes the parity gate runs (:meth:`vit_perception.engines.engine.Engine.attempts`).
DINOv2 ViT-S/14 passes with nothing left out. A few channels of its activations are a hundred times
larger than the others. NNCF's SmoothQuant, which is on for transformers, moves those into the
weights and ruins them (mean patch cosine 0.35), so it is off.

On CPUs whose int8 kernels saturate (:mod:`vit_perception.engines.openvino.int8_on_cpu`) weights use
half of their range, so that the sum of two products fits. This is NNCF's overflow fix.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.engines.cache.store import Cached
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.openvino.core import core
from vit_perception.engines.openvino.int8_on_cpu import kernels_saturate
from vit_perception.engines.source import EngineSource, digest_of_images
from vit_perception.files import telemetry

_MODEL_NAME = "model.xml"
# Part of the cache's key: raise it when the same images would give another model.
_RECIPE_VERSION = 1
# The first three groups cost no speed, because the time is spent in the linear layers. Then come
# two of all blocks, then a third of the arithmetic. On DINOv2 ViT-S/14 the mean patch cosine is
# 0.9983, 0.9989, 0.9993 and 0.9995.
_ATTENTION = "attention products"
_EMBEDDING = "patch embedding"
_HEAD = "classification head"
_ENDS = "first and last block"
_MLP = "MLP output layers"
LEFT_OUT = (
    (),
    (_ATTENTION, _EMBEDDING, _HEAD),
    (_ATTENTION, _EMBEDDING, _HEAD, _ENDS),
    (_ATTENTION, _EMBEDDING, _HEAD, _ENDS, _MLP),
)


def int8_model(source: EngineSource, spec: EngineSpec, saturates: bool | None = None) -> Cached:
    """Return the quantised model's file, from the cache or made now in seconds to minutes.

    ``saturates`` is whether the int8 kernels that run it saturate; None asks this CPU's.

    Raises:
        EngineError: ``engine.calibration`` is not set, or NNCF is not installed.
        BadSetting: There are no images at ``engine.calibration``.
        CacheError: The cache cannot be used.
    """
    if source.calibration is None:
        raise EngineError(
            "precision int8 has to be calibrated, and engine.calibration is ''; accepted: a "
            "rosbag2 folder or a folder of pictures of what the robot sees"
        )
    if util.find_spec("nncf") is None:
        raise EngineError(
            "precision int8 is made by the Python package nncf, which is not installed"
        )
    images = source.calibration()
    saturates = kernels_saturate() if saturates is None else saturates
    key = {
        "kind": "openvino int8",
        "onnx": source.key(),
        "left_out": list(spec.left_out),
        "recipe": _RECIPE_VERSION,
        "calibration_sha256": digest_of_images(images),
        # Only if they do, so that models for other CPUs keep their keys.
        **({"weights": "half range"} if saturates else {}),
        **{name: metadata.version(name) for name in ("openvino", "nncf")},
    }

    def build(folder: Path) -> None:
        import openvino

        note = (
            ", with weights of 7 bits, since the int8 products of this CPU overflow"
            if saturates
            else ""
        )
        source.log.info(
            f"making the {spec} model from {len(images)} calibration images{note}, once"
        )
        model = core().read_model(source.onnx_file().path)
        quantised = _quantised(model, images, spec, source, saturates)
        openvino.save_model(quantised, folder / _MODEL_NAME, compress_to_fp16=False)

    entry = source.cached(key, build)
    return Cached(entry.path / _MODEL_NAME, entry.was_cached)


def layer_groups(model: Any) -> dict[str, list[str]]:
    """Return the names of the layers of an ``openvino.Model`` by group.

    Layers are found by what they do, because the exporter's names say nothing. A product of two
    activations is attention. A linear layer over tokens that narrows them is an MLP's output layer,
    which ends a block. A linear layer over (B, D) is the head.
    """
    groups: dict[str, list[str]] = {name: [] for name in LEFT_OUT[-1]}
    blocks: list[list[str]] = [[]]
    for operation in model.get_ordered_ops():
        name = operation.get_friendly_name()
        kind = operation.get_type_name()
        if kind == "Convolution":
            groups[_EMBEDDING].append(name)
        if kind != "MatMul":
            continue
        shape_in, shape_out = (
            list(operation.input(0).get_shape()),
            list(operation.output(0).get_shape()),
        )
        narrows = shape_out[-1] < shape_in[-1]
        if not _is_constant(operation.input_value(1).get_node()):
            groups[_ATTENTION].append(name)
        elif len(shape_in) == 2:
            groups[_HEAD].append(name)
            continue
        elif narrows:
            groups[_MLP].append(name)
        blocks[-1].append(name)
        if narrows and name in groups[_MLP]:
            blocks.append([])
    # What follows the last MLP, such as the CLS token's attention, is not a block.
    complete = blocks[:-1] or blocks
    groups[_ENDS] = sorted({*complete[0], *complete[-1]})
    return groups


def _is_constant(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"


def _quantised(
    model: Any, images: np.ndarray, spec: EngineSpec, source: EngineSource, saturates: bool
) -> Any:
    telemetry.off()
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
    )

    # The shapes are static: a batch that is not full is filled up with the first images.
    batches = np.resize(images, (-(-len(images) // spec.batch), spec.batch, *images.shape[1:]))
    runs = itertools.count(1)

    def counted(batch: np.ndarray) -> np.ndarray:
        if (run := next(runs)) % 16 == 0:
            source.log.info(f"int8: {run} of {len(batches)} calibration runs")
        return batch

    groups = layer_groups(model)
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(list(batches), counted),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(
                names=sorted({n for group in spec.left_out for n in groups[group]})
            ),
            advanced_parameters=AdvancedQuantizationParameters(
                # None is NNCF's choice, the full range in linear layers.
                overflow_fix=OverflowFix.ENABLE if saturates else None,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(convolution=-1, matmul=-1),
            ),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress NNCF's progress bars and notes, which would be printed into the node's log."""
    import rich

    logger = logging.getLogger("nncf")
    console = rich.get_console()
    level = logger.level
    was_quiet = console.quiet
    logger.setLevel(logging.ERROR)
    console.quiet = True
    try:
        yield
    finally:
        logger.setLevel(level)
        console.quiet = was_quiet
