"""Part of the stand-in for TensorRT: an ONNX graph run by torch, operator by operator, on the
current stream.

It knows the operators that the exporter writes for the encoder graph. Shapes and indices are
constants of the graph and are read once, on the host, so that a run neither waits for the GPU nor
copies to it: a CUDA graph can record it.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from test.engines.standin_tensorrt import build_part

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.UINT8: torch.uint8,
}


def _reshape(x: Tensor, shape: list[int], allowzero: int = 0) -> Tensor:
    return x.reshape(
        [x.shape[axis] if side == 0 and not allowzero else side for axis, side in enumerate(shape)]
    )


def _slice(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int] | None = None
) -> Tensor:
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(axes), strict=True):
        x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
    return x


def _gather(x: Tensor, indices: int | list[int], axis: int = 0) -> Tensor:
    if isinstance(indices, int):
        return x.select(axis, indices)
    return torch.stack([x.select(axis, index) for index in indices], axis)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, axis: int = -1, stash_type: int = 1
) -> Tensor:
    return functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _conv(x: Tensor, weight: Tensor, bias: Tensor, strides: list[int], **ignored) -> Tensor:
    return functional.conv2d(x, weight, bias, strides)


def _gemm(x: Tensor, weight: Tensor, bias: Tensor, transB: int = 0, **ignored) -> Tensor:
    return x @ (weight.T if transB else weight) + bias


def _split(
    x: Tensor, sizes: list[int] | None = None, axis: int = 0, num_outputs: int = 0
) -> tuple[Tensor, ...]:
    return x.split(sizes, axis) if sizes else x.chunk(num_outputs, axis)


OPERATORS: dict[str, Callable] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
    "MatMul": torch.matmul,
    "Erf": torch.erf,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Gemm": _gemm,
    "Conv": _conv,
    "Gather": _gather,
    "Cast": lambda x, to: x.to(DTYPES[to]),
    "Softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "LayerNormalization": _layer_norm,
    "Transpose": lambda x, perm: x.permute(perm),
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Unsqueeze": lambda x, axes: x.unsqueeze(axes[0]),
    "ReduceMean": lambda x, axes, keepdims=1, **ignored: x.mean(axes, bool(keepdims)),
    "ReduceMax": lambda x, axes, keepdims=1, **ignored: x.amax(axes, bool(keepdims)),
}
assert OPERATORS.keys() == build_part.OPERATORS  # what the parser lets through


class OnnxOnTorch:
    """``model``, its weights on ``device``. Calling it gives the outputs, by name, of the inputs,
    by name.

    ``spoil_half_softmax`` makes every softmax in half precision wrong, as fused attention was in
    some versions of TensorRT; ``tf32`` lets float32 convolutions round their factors to TF32.
    """

    def __init__(
        self, model: onnx.ModelProto, device: torch.device, tf32: bool, spoil_half_softmax: bool
    ):
        self._constants = {one.name: _constant(one, device) for one in model.graph.initializer}
        self._outputs = [one.name for one in model.graph.output]
        self._tf32, self._spoil_half_softmax = tf32, spoil_half_softmax
        last_use = {
            name: node
            for node in range(len(model.graph.node))
            for name in model.graph.node[node].input
        }
        self._steps = []
        for index, node in enumerate(model.graph.node):
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            done_with = [
                name
                for name in dict.fromkeys(node.input)
                if name not in self._constants
                and name not in self._outputs
                and last_use[name] == index
            ]
            self._steps.append((node, partial(OPERATORS[node.op_type], **attributes), done_with))

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        values = dict(inputs)
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=self._tf32):
            for node, operator, done_with in self._steps:
                given = [
                    values[name] if name in values else self._constants[name] for name in node.input
                ]
                results = operator(*given)
                if (
                    self._spoil_half_softmax
                    and node.op_type == "Softmax"
                    and results.dtype != torch.float32
                ):
                    results = results.flip(-1)
                values.update(
                    zip(
                        node.output,
                        results if isinstance(results, tuple) else (results,),
                        strict=True,
                    )
                )
                for name in done_with:  # or the memory of all blocks would be needed at once
                    del values[name]
        return {
            name: values[name] if name in values else self._constants[name]
            for name in self._outputs
        }


def _constant(initializer: TensorProto, device: torch.device) -> Tensor | list[int] | int:
    """A weight on ``device``, or a shape, index or axis as Python numbers."""
    array = numpy_helper.to_array(initializer)
    if initializer.data_type == TensorProto.INT64:
        return array.tolist()
    if initializer.data_type == TensorProto.BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).to(device)
    return torch.from_numpy(array.copy()).to(device)
