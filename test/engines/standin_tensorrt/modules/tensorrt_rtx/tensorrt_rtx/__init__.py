"""A STAND-IN for NVIDIA's module `tensorrt_rtx`, for tests: see test/engines/standin_tensorrt. It
is no TensorRT.
"""

from test.engines.standin_tensorrt.build_part import VERSION as __version__  # noqa: F401
from test.engines.standin_tensorrt.build_part import (  # noqa: F401
    DataType,
    IHostMemory,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    IProgressMonitor,
    ITensor,
    ITimingCache,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
    ParserError,
)
from test.engines.standin_tensorrt.rtx_part import (  # noqa: F401
    Builder,
    BuilderFlag,
    ComputeCapability,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    IRuntimeCache,
    IRuntimeConfig,
    Runtime,
)
from test.engines.standin_tensorrt.run_part import ExecutionContextAllocationStrategy, TensorIOMode  # noqa: F401
