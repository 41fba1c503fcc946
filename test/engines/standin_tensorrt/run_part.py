"""Part of the stand-in for TensorRT: runtime, engine, execution context. The names are NVIDIA's;
torch computes.

Like the real one it is given raw addresses and the handle of a stream, queues its work there and
does not wait. On the CPU it computes at once. The device is the GPU where torch has one, unless the
environment variable says otherwise.
"""

import ctypes
import enum
import json
import math
import os
from typing import TYPE_CHECKING

import onnx

from test.engines.standin_tensorrt.build_part import MAGIC, VERSION, DataType, ILogger, ITensor
from test.engines.standin_tensorrt.faults import told

if TYPE_CHECKING:
    import torch

DEVICE_VARIABLE = "STANDIN_TENSORRT_DEVICE"
ALIGNMENT_BYTES = 256
TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
ExecutionContextAllocationStrategy = enum.Enum(
    "ExecutionContextAllocationStrategy", ["STATIC", "USER_MANAGED"]
)


def device() -> "torch.device":
    """Where the stand-in computes."""
    import torch

    name = os.environ.get(DEVICE_VARIABLE) or ("cuda" if torch.cuda.is_available() else "cpu")
    return (
        torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)
    )


class Runtime:
    _engine_class = property(lambda self: ICudaEngine)  # TensorRT-RTX has its own

    def __init__(self, logger: ILogger):
        if told("runtime_null"):
            logger.log(
                ILogger.Severity.ERROR, "stand-in: CUDA initialization failure with error: 35"
            )
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        content = bytes(serialized_engine)
        if not content.startswith(MAGIC):
            return self._fail(
                "stand-in: Error Code 1: Serialization (Serialization assertion magicTagRead == "
                "kMAGIC_TAG failed.Magic tag does not match)"
            )
        line, _, graph = content[len(MAGIC) :].partition(b"\n")
        says = json.loads(line)
        if says["version"] != VERSION:
            return self._fail(
                "stand-in: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
                "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: "
                f"{VERSION}, Serialized Engine Version: {says['version']})"
            )
        if told("load_out_of_memory"):
            return self._fail(
                "stand-in: IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory (Requested "
                "size "
                "was 176160768 bytes.)"
            )
        if told("load_warns"):
            self._logger.log(ILogger.Severity.WARNING, "stand-in: a warning of the runtime")
        return self._engine_class(onnx.ModelProto.FromString(graph), says["tf32"], self._logger)

    def _fail(self, why: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, why)


class ICudaEngine:
    def __init__(self, model: onnx.ModelProto, tf32: bool, logger: ILogger):
        from test.engines.standin_tensorrt.onnx_on_torch import OnnxOnTorch

        self._logger, self._device = logger, device()
        self._ends = [(ITensor(one), TensorIOMode.INPUT) for one in model.graph.input]
        self._ends += [(ITensor(one), TensorIOMode.OUTPUT) for one in model.graph.output]
        self._named = {tensor.name: (tensor, mode) for tensor, mode in self._ends}
        self._compute = OnnxOnTorch(model, self._device, tf32, told("half_attention_wrong"))

    @property
    def num_io_tensors(self):
        return len(self._ends)

    @property
    def device_memory_size_v2(self):
        """Room for a copy of the inputs: what a context computes from stands in its scratch
        memory.
        """
        return sum(
            math.prod(tensor.shape) for tensor, mode in self._ends if mode is TensorIOMode.INPUT
        )

    def get_tensor_name(self, index):
        return self._ends[index][0].name

    def get_tensor_mode(self, name):
        return self._named[name][1]

    def get_tensor_dtype(self, name):
        return self._named[name][0].dtype

    def get_tensor_shape(self, name):
        return self._named[name][0].shape

    def create_execution_context(self, strategy):
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED, strategy
        return self._no_context() if told("context_none") else IExecutionContext(self)

    def _no_context(self) -> None:
        self._logger.log(ILogger.Severity.ERROR, "stand-in: no memory for an execution context")


class IExecutionContext:
    def __init__(self, engine: ICudaEngine):
        self._engine, self._logger = engine, engine._logger
        self._buffers, self._scratch = {}, {}

    def set_device_memory(self, memory, size):
        assert memory % ALIGNMENT_BYTES == 0 and size >= self._engine.device_memory_size_v2, (
            memory,
            size,
        )
        for name, (tensor, mode) in self._engine._named.items():
            if mode is TensorIOMode.INPUT:
                self._scratch[name] = _at(memory, tensor, self._engine._device)
                memory += self._scratch[name].numel()

    def set_tensor_address(self, name, memory):
        if memory % ALIGNMENT_BYTES or told("address_refused"):
            return self._fail(f"stand-in: the address of {name}, {memory:#x}, is refused")
        tensor, _ = self._engine._named[name]
        self._buffers[name] = _at(memory, tensor, self._engine._device)
        return True

    def execute_async_v3(self, stream_handle):
        missing = [name for name in self._engine._named if name not in self._buffers]
        if missing or not self._scratch:
            return self._fail(
                f"stand-in: no address of {', '.join(missing) or 'the scratch memory'}"
            )
        if told("enqueue_false"):
            return self._fail("stand-in: Error Code 1: Cuda Runtime (an error of the test's)")
        try:
            if self._engine._device.type == "cpu":
                self._queue()
            else:
                import torch

                with torch.cuda.stream(
                    torch.cuda.ExternalStream(stream_handle, device=self._engine._device)
                ):
                    self._fail_in_capture()
                    self._queue()
        except Exception as error:  # NVIDIA's says what is wrong in the log and gives False
            return self._fail(f"stand-in: {type(error).__name__}: {error}")
        return True

    def _queue(self) -> None:
        for name, copy in self._scratch.items():
            copy.copy_(self._buffers[name])
        for name, result in self._engine._compute(**self._scratch).items():
            self._buffers[name].copy_(result)

    def _fail_in_capture(self) -> None:
        import torch

        if torch.cuda.is_current_stream_capturing():
            if told("enqueue_false_in_capture"):
                raise RuntimeError("it does not run while a CUDA graph is recorded")
            if told("synchronises_in_capture"):
                torch.cuda.synchronize(self._engine._device)

    def _fail(self, why: str) -> bool:
        self._logger.log(ILogger.Severity.ERROR, why)
        return False


class _CudaMemory:
    """Bytes at a raw address of a GPU, in the words that torch reads (the CUDA array interface)."""

    def __init__(self, address: int, size_bytes: int):
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": (size_bytes,),
            "typestr": "|u1",
            "strides": None,
            "version": 3,
        }


def _at(address: int, tensor: ITensor, where: "torch.device") -> "torch.Tensor":
    """What ``tensor`` describes, at ``address``: memory of the caller's, which has to outlive
    it.
    """
    import torch

    dtype = {DataType.FLOAT: torch.float32, DataType.UINT8: torch.uint8}[tensor.dtype]
    size_bytes = math.prod(tensor.shape) * dtype.itemsize
    if where.type == "cpu":
        raw = torch.frombuffer(
            (ctypes.c_uint8 * size_bytes).from_address(address), dtype=torch.uint8
        )
    else:
        raw = torch.as_tensor(_CudaMemory(address, size_bytes), device=where)
    return raw.view(dtype).reshape(tensor.shape)
