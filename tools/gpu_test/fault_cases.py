"""Programs that break the GPU for their own process: ``python -m tools.gpu_test.fault_cases CASE
--device cuda``.

The process has to end with ``cuda_fault.EXIT_STATUS``; it ends with 0 where nobody noticed the
fault. On a CPU the engine only says what CUDA would.
"""

import argparse
import ctypes
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from tools.gpu_test.machine import Machine
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.engines.engine import Engine
from vit_perception.engines.select import open_engine

CASES = ("assert", "address", "trap", "auto")
_FRAMES = 100  # a fault is told by a later call than the one that caused it
# 7.5 is the lowest compute capability that CUDA 13 knows; the driver compiles it for what is there.
_KERNEL = """.version 6.3
.target sm_75
.address_size 64
.visible .entry broken()
{{
    .reg .b64 %address;
    .reg .b32 %value;
    mov.u64 %address, 16;
    mov.u32 %value, 1;
    {line}
    ret;
}}
"""
_LINES = {"address": "st.global.u32 [%address], %value;", "trap": "trap;"}


def kernel(case: str) -> bytes:
    """A kernel in PTX that does what ``case`` (address, trap) says."""
    return _KERNEL.format(line=_LINES[case]).encode()


def break_gpu(case: str) -> None:
    """Start a kernel that fails on this process's GPU."""
    if case == "assert":
        torch.zeros(4, device="cuda")[torch.tensor([1 << 20], device="cuda")]
        return
    torch.zeros(1, device="cuda")  # so that torch's context is there, and this thread's
    driver = ctypes.CDLL("libcuda.so.1")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    for name, *arguments in (
        ("cuModuleLoadData", ctypes.byref(module), kernel(case)),
        ("cuModuleGetFunction", ctypes.byref(function), module, b"broken"),
        ("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, None, None),
    ):
        code = getattr(driver, name)(*arguments)
        if code:
            raise SystemExit(f"{name} gives {code}: the fault cannot be made")


def run(case: str, machine: Machine) -> int:
    """Break the GPU under an open engine, and go on as if nothing were; 0 where that is
    possible.
    """
    loaded, runtime = machine.random(), machine.real_runtimes[0]
    with machine.opened(runtime, loaded, 2, "float32") as opened:
        images = opened.two[0]
        opened.engine.infer(images)
        print("the engine runs; now the fault", flush=True)
        if machine.on_gpu:
            break_gpu("address" if case == "auto" else case)
        else:
            _say_it_is_broken(opened.engine)
        if case == "auto":
            with suppress(cuda_fault.GpuLost):  # as a program would that does not know better
                opened.engine.infer(images)
            other = open_engine(
                EngineSettings("auto" if machine.on_gpu else "torch"), loaded, 2
            ).engine
            print(f"{other.runtime} on {other.device} took over", flush=True)
            return 0
        for _ in range(_FRAMES):
            opened.engine.infer(images)
            time.sleep(0.01)
    print(f"{_FRAMES} frames went on", flush=True)
    return 0


def _say_it_is_broken(engine: Engine) -> None:
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    type(engine)._run = type(engine)._open = broken


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vit_perception_fault_") as folder:
        machine = Machine(options.device, Path(folder))
        return cuda_fault.run_program(partial(run, options.case, machine), "gpu-test")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
