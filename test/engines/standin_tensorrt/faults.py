"""Part of the stand-in for TensorRT: what it can be told to do wrong, each a thing that NVIDIA's
module does.

The names stand in an environment variable, so that a process that builds an engine in another one
hands them on.
"""

import os

VARIABLE = "STANDIN_TENSORRT_FAULTS"
FAULTS = {
    "builder_null": "the builder does not start: pybind11 raises TypeError",
    "parser_logs_errors": "the parser logs an error that means nothing, and succeeds",
    "build_warns": "the builder logs a warning, and succeeds",
    "build_none": "the builder logs an error and gives None",
    "old_version": "the builder writes a file of another version",
    "timings_none": "the timing cache gives None",
    "runtime_null": "the runtime does not start: pybind11 raises TypeError",
    "load_out_of_memory": "the runtime has no memory for a good file",
    "load_warns": "the runtime logs a warning and loads",
    "context_none": "the engine logs an error and gives no execution context",
    "address_refused": "the context refuses each buffer",
    "enqueue_false": "the context logs an error and does not run",
    "enqueue_false_in_capture": "the context does not run while a CUDA graph is recorded",
    "synchronises_in_capture": "the context waits for the GPU while a CUDA graph is recorded",
    "not_capturable": "the context says that no CUDA graph can be recorded",
    "half_attention_wrong": "softmax in half precision is silently wrong",
    "kernels_refused": "TensorRT-RTX refuses the kernels that were kept",
    "kernels_none": "TensorRT-RTX gives no kernels to keep",
    "no_kernel_cache": "TensorRT-RTX refuses to take a cache of kernels",
}


def told(name: str) -> bool:
    """Whether the stand-in is to do wrong what ``name``, one of FAULTS, names."""
    assert name in FAULTS, name
    return name in os.environ.get(VARIABLE, "").split(",")
