"""Part of the stand-in for TensorRT: logger, network, parser, builder. The names are NVIDIA's; what
they do is not.

The "engine" that is built is the ONNX file's content behind a line that says what it is. torch is
not imported here: a process that only builds starts in a fraction of the time without it.
"""

import enum
import json

import onnx

from test.engines.standin_tensorrt.faults import told

VERSION = "10.13.0+standin"  # in every status, log line and cache key
MAGIC = b"STAND-IN for TensorRT: no engine, but an ONNX graph that torch runs\n"
OPERATORS = {
    "Add",
    "Cast",
    "Concat",
    "Conv",
    "Div",
    "Erf",
    "Gather",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
}  # what onnx_on_torch.py runs
DataType = enum.Enum("DataType", {"FLOAT": onnx.TensorProto.FLOAT, "UINT8": onnx.TensorProto.UINT8})
MemoryPoolType = enum.Enum("MemoryPoolType", ["WORKSPACE"])
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})
BuilderFlag = enum.Enum("BuilderFlag", ["TF32"])


class ILogger:
    Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def __init__(self):
        pass


class IProgressMonitor:
    def __init__(self):
        pass


class IHostMemory:
    """Bytes that the runtime owns: ``bytes()`` copies them."""

    def __init__(self, content: bytes):
        self._content = content

    def __bytes__(self):
        return self._content


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto):
        sides = value.type.tensor_type.shape.dim
        self.name, self.dtype = value.name, DataType(value.type.tensor_type.elem_type)
        self.shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)


class INetworkDefinition:
    def __init__(self, flags: int):
        self._strongly_typed = bool(flags >> NetworkDefinitionCreationFlag.STRONGLY_TYPED & 1)
        self._model = onnx.ModelProto()

    @property
    def num_inputs(self):
        return len(self._model.graph.input)

    @property
    def num_outputs(self):
        return len(self._model.graph.output)

    def get_input(self, index):
        return ITensor(self._model.graph.input[index])

    def get_output(self, index):
        return ITensor(self._model.graph.output[index])


class ParserError:
    def __init__(self, text: str, index: int = -1, name: str = "", operator: str = ""):
        self._text, self._index, self._name, self._operator = text, index, name, operator

    def desc(self):
        return self._text

    def node(self):
        return self._index

    def node_name(self):
        return self._name

    def node_operator(self):
        return self._operator


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger):
        self._network, self._logger, self._errors = network, logger, []

    def parse_from_file(self, model):
        if told("parser_logs_errors"):
            self._logger.log(ILogger.Severity.ERROR, "stand-in: an error that means nothing")
        try:
            read = onnx.load(model)  # with the weights beside it
        except Exception as error:  # protobuf's own, a file of weights that is not there
            self._errors.append(ParserError(f"stand-in: {error}"))
            return False
        nodes = list(read.graph.node)
        self._errors += [
            ParserError("stand-in: unknown operator", nodes.index(node), node.name, node.op_type)
            for node in nodes
            if node.domain or node.op_type not in OPERATORS
        ]
        self._network._model = read
        return not self._errors

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]


class ITimingCache:
    def __init__(self, content: bytes):
        self._content = content

    def serialize(self):
        return None if told("timings_none") else IHostMemory(self._content)


class IOptimizationProfile:
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        self._shapes[input] = (min, opt, max)


class IBuilderConfig:
    def __init__(self):
        self.progress_monitor = None
        self._flags, self._profiles = {"TF32"}, []

    def set_memory_pool_limit(self, pool, pool_size):
        assert isinstance(pool, MemoryPoolType) and pool_size > 0

    def set_flag(self, flag):
        self._flags.add(flag.name)

    def clear_flag(self, flag):
        self._flags.discard(flag.name)

    def create_timing_cache(self, serialized_timing_cache):
        mine = f"stand-in timings {VERSION}".encode()
        return ITimingCache(mine) if serialized_timing_cache in (b"", mine) else None

    def set_timing_cache(self, cache, ignore_mismatch):
        return isinstance(cache, ITimingCache)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1


class Builder:
    def __init__(self, logger: ILogger):
        if told("builder_null"):
            logger.log(
                ILogger.Severity.ERROR, "stand-in: CUDA initialization failure with error: 35"
            )
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        if not network._strongly_typed:
            return self._fail("stand-in: the network is not strongly typed")
        if told("build_warns"):
            self._logger.log(ILogger.Severity.WARNING, "stand-in: a warning of the builder")
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("stand-in", None, 2)
            go_on = all(monitor.step_complete("stand-in", step) for step in range(2))
            monitor.phase_finish("stand-in")
            if not go_on:
                return self._fail("stand-in: the build was stopped")
        if told("build_none"):
            return self._fail(
                "stand-in: Error Code 10: Internal Error (Could not find any implementation for "
                "node)"
            )
        version = "10.3.0+standin" if told("old_version") else VERSION
        says = {"version": version, "tf32": "TF32" in config._flags}
        return IHostMemory(
            MAGIC + json.dumps(says).encode() + b"\n" + network._model.SerializeToString()
        )

    def _fail(self, why: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, why)
