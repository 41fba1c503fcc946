"""Part of the stand-in for TensorRT: what TensorRT-RTX has beside the names that it shares with
TensorRT.
"""

import enum
import weakref

from test.engines.standin_tensorrt import build_part, run_part
from test.engines.standin_tensorrt.build_part import VERSION, IHostMemory
from test.engines.standin_tensorrt.faults import told
from test.engines.standin_tensorrt.run_part import ExecutionContextAllocationStrategy

BuilderFlag = enum.Enum("BuilderFlag", ["TF32", "REQUIRE_USER_ALLOCATION"])
# More than NVIDIA's, so that the stand-in runs on any GPU.
ComputeCapability = enum.Enum(
    "ComputeCapability",
    ["SM75", "SM80", "SM86", "SM87", "SM89", "SM90", "SM100", "SM103", "SM110", "SM120", "SM121"],
)


class IBuilderConfig(build_part.IBuilderConfig):
    def __init__(self):
        super().__init__()
        self.num_compute_capabilities = 0

    def set_compute_capability(self, compute_capability, index):
        return (
            isinstance(compute_capability, ComputeCapability)
            and index < self.num_compute_capabilities
        )


class Builder(build_part.Builder):
    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        if "REQUIRE_USER_ALLOCATION" not in config._flags or not config.num_compute_capabilities:
            return self._fail("stand-in: it would allocate while it runs, or has no target")
        return super().build_serialized_network(network, config)


class IRuntimeCache:
    """The kernels that were compiled at run time."""

    def __init__(self):
        self._kernels = f"stand-in kernels {VERSION}".encode()

    def deserialize(self, blob):
        return blob == self._kernels and not told("kernels_refused")

    def serialize(self):
        return None if told("kernels_none") else IHostMemory(self._kernels)


class IRuntimeConfig:
    def __init__(self):
        self._strategy, self._cache = ExecutionContextAllocationStrategy.STATIC, None

    def set_execution_context_allocation_strategy(
        self, strategy=ExecutionContextAllocationStrategy.STATIC
    ):
        self._strategy = strategy

    def create_runtime_cache(self):
        return IRuntimeCache()

    def set_runtime_cache(self, cache=None):
        self._cache = weakref.ref(cache)
        return not told("no_kernel_cache")


class IExecutionContext(run_part.IExecutionContext):
    """Reads the runtime configuration and its cache as long as it lives, and keeps neither: their
    owner has to.
    """

    def __init__(self, engine: "ICudaEngine", config: IRuntimeConfig):
        super().__init__(engine)
        self._reads = {"configuration": weakref.ref(config), "cache": config._cache}

    def is_stream_capturable(self, stream):
        return self._engine._device.type == "cuda" and not told("not_capturable")

    def execute_async_v3(self, stream_handle):
        if gone := [name for name, read in self._reads.items() if read() is None]:
            return self._fail(
                f"stand-in: the runtime {' and '.join(gone)} is gone, which the context reads"
            )
        return super().execute_async_v3(stream_handle)


class ICudaEngine(run_part.ICudaEngine):
    def create_runtime_config(self):
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config):
        assert runtime_config._strategy is ExecutionContextAllocationStrategy.USER_MANAGED, (
            runtime_config._strategy
        )
        return (
            self._no_context() if told("context_none") else IExecutionContext(self, runtime_config)
        )


class Runtime(run_part.Runtime):
    _engine_class = ICudaEngine
