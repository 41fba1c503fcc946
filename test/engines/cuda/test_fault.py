"""Which faults of a GPU end the process, by the texts that CUDA, torch, TensorRT and ONNX Runtime
really write.

The texts are those of cudaGetErrorString (CUDA 12.9, 13.0) and of reports to torch, TensorRT and
ONNX Runtime.
"""

import shutil
import subprocess
import sys

import pytest
import torch

from test.engines.rows import row
from test.log_lines import LogLines
from test.waiting import run_program
from vit_perception.config.backends import BACKENDS
from vit_perception.config.settings import EngineSettings
from vit_perception.engines import select
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.engines.cuda.fault import EXIT_STATUS, STICKY, GpuLost, code_in, lost
from vit_perception.engines.engine import BackendStatus, Engine, EngineError, EngineSpec
from vit_perception.engines.select import open_engine
from vit_perception.engines.torch_engine import TorchEngine

TORCH_TAIL = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below "
    "might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with "
    "`TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
REAL = {
    "torch": (
        700,
        "CUDA error: an illegal memory access was encountered\nSearch for "
        "`cudaErrorIllegalAddress' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more "
        "information." + TORCH_TAIL,
    ),
    "torch, an assert": (710, "CUDA error: device-side assert triggered" + TORCH_TAIL),
    "torch's driver calls": (719, "CUDA driver error: unspecified launch failure"),
    "TensorRT": (
        700,
        "IExecutionContext::enqueueV3: Error Code 1: Myelin ([cask_fusion.cpp:exec:417] Platform "
        "(Cuda) "
        "error); [checkMacros.cpp::catchCudaError::212] Error Code 1: Cuda Runtime (an illegal "
        "memory "
        "access was encountered)",
    ),
    "TensorRT's driver calls": (
        719,
        "1: [cudaDriverHelpers.cpp::operator()::94] Error Code 1: Cuda Driver "
        "(unspecified launch failure)",
    ),
    "Myelin": (716, "Error Code 1: Myelin (CUDA error 716 launching '__myl_Fc' kernel.)"),
    "ONNX Runtime": (
        700,
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was "
        "encountered "
        "; GPU=0 ; hostname=orin ; file=gpu_data_transfer.cc ; line=63 ; expr=cudaMemcpyAsync(...)",
    ),
    "ONNX Runtime on CUDA 10": (
        719,
        "CUDA failure 4: unspecified launch failure ; GPU=0 ; hostname=orin ;",
    ),
    "the driver's name": (714, "cuStreamSynchronize gave CUDA_ERROR_HARDWARE_STACK_ERROR"),
    "the driver's other name": (719, "CUDA_ERROR_LAUNCH_FAILED (719)"),
    "memory": (214, "CUDA error: uncorrectable ECC error encountered" + TORCH_TAIL),
}
PASSING = {
    "memory": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.44 "
    "GiB" + TORCH_TAIL,
    "memory, of CUDA": "CUDA error: out of memory" + TORCH_TAIL,
    "memory, of Myelin": "Error Code 1: Myelin (CUDA error 2 for 4096-byte allocation)",
    "memory, of TensorRT": "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)",
    "memory, of cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
    "`cublasCreate(handle)`",
    "an argument": "CUDA error: invalid argument" + TORCH_TAIL,
    "a kernel that is not there": "CUDA error: no kernel image is available for execution on the "
    "device" + TORCH_TAIL,
    "a recording": "CUDA error: operation failed due to a previous error during capture"
    + TORCH_TAIL,
    "no GPU": "CUDA error: no CUDA-capable device is detected",
    "a torch that finds none": "CUDA unknown error - this may be due to an incorrectly set up "
    "environment",
    "a file": "Error Code 1: Serialization (Serialization assertion stdVersionRead == "
    "kSERIALIZATION_VERSION failed.)",
    "a figure": "CUDA graph of 700 nodes: the error is 719.0 of 2000",
}
UNCLEAR = {
    "Cask": "2: [convolutionRunner.cpp::execute::213] Error Code 1: Cask (Cask convolution "
    "execution)",
    "Cudnn": "1: [cudnnConvolutionRunner.cpp::execute::118] Error Code 1: Cudnn "
    "(CUDNN_STATUS_EXECUTION_FAILED)",
    "cuDNN": "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, "
    "opb, m, n, k)`",
    "Myelin": "IExecutionContext::enqueueV3: Error Code 1: Myelin ([cask_fusion.cpp:exec:417] "
    "Platform (Cuda) error)",
    "unknown": "CUDA error: unknown error" + TORCH_TAIL,
}


@pytest.mark.parametrize("code", STICKY)
def test_each_code_is_known_by_number_text_and_names(code):
    name, text = STICKY[code]
    with_code = torch.AcceleratorError("CUDA error: whatever it says")
    with_code.error_code = code
    for error in (
        RuntimeError(f"CUDA error: {text}{TORCH_TAIL}"),
        RuntimeError(f"CUDA failure {code}: something new"),
        EngineError(f"tensorrt does not run: Error Code 1: Cuda Runtime ({text})"),
        RuntimeError(name),
        with_code,
    ):
        assert f"CUDA error {code}, {text}" in str(lost(error))


@pytest.mark.parametrize("code, text", REAL.values(), ids=REAL)
def test_what_libraries_write_of_a_lost_context_is_recognised(code, text):
    assert code_in(text) == code
    gone = lost(RuntimeError(text))
    assert isinstance(gone, GpuLost) and "\n" not in str(gone) and len(str(gone)) < 800


@pytest.mark.parametrize("text", PASSING.values(), ids=PASSING)
def test_what_does_not_end_the_context_ends_no_process(text):
    assert lost(RuntimeError(text)) is None and lost(torch.AcceleratorError(text)) is None
    assert lost(EngineError(f"tensorrt does not run: {text}")) is None


def test_a_library_for_the_cpu_may_use_the_same_words():
    assert lost(RuntimeError("the rows of the picture have a misaligned address")) is None
    assert lost(RuntimeError("hardware stack error")) is None


@pytest.mark.parametrize("text", UNCLEAR.values(), ids=UNCLEAR)
def test_where_a_library_does_not_say_why_cuda_is_asked(text):
    error = EngineError(f"tensorrt does not run: {text}")
    assert lost(error, ask=lambda: 0) is None and lost(error, ask=lambda: 2) is None
    assert "CUDA error 700" in str(lost(error, ask=lambda: 700))
    assert lost(error, ask=lambda: 999) and lost(error, ask=lambda: None)


def test_the_fault_is_found_behind_what_was_raised_after_it():
    def fail():
        try:
            raise RuntimeError(REAL["ONNX Runtime"][1])
        except RuntimeError:
            raise ValueError("the clean-up failed, too")  # noqa: B904

    with pytest.raises(ValueError) as caught:
        fail()
    assert "CUDA error 700" in str(lost(caught.value))
    error = caught.value
    error.__context__.__context__ = error  # a circle
    assert lost(error)
    there = cuda_fault.elsewhere(EngineError("the process that built said: CUDA error 700"))
    assert lost(EngineError("the process that built said: CUDA error 700")) and lost(there) is None
    failed = EngineError(f"tensorrt float16: {there}")
    failed.__cause__ = there
    assert lost(failed) is None


STUB = """
static int code = {code};
int cuCtxGetCurrent(void **context) {{ *context = {context}; return 0; }}
int cuCtxSetCurrent(void *context) {{ return context == {context} ? 0 : 201; }}
unsigned int sleep(unsigned int);
int cuCtxSynchronize(void) {{ {wait} return code; }}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    "stub, expected",
    [
        ({"code": 0}, "0"),
        ({"code": 700}, "700"),
        ({"code": 0, "context": "(void *)0"}, "None"),
        ({"code": 0, "wait": "sleep(600);"}, "None"),
    ],
    ids=["it works", "lost", "no context", "it hangs"],
)
def test_the_driver_is_asked_of_this_threads_context_and_not_waited_for(tmp_path, stub, expected):
    """A library of that name with these calls stands in for the driver; that a GPU answers so is
    not shown here.
    """
    given = {"context": "(void *)4711", "wait": ""} | stub
    (tmp_path / "driver.c").write_text(STUB.format(**given))
    subprocess.run(
        [
            "cc",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libcuda.so.1",
            "-o",
            tmp_path / "driver.so",
            tmp_path / "driver.c",
        ],
        check=True,
    )
    program = (
        f"import ctypes; ctypes.CDLL({str(tmp_path / 'driver.so')!r})\n"
        "from vit_perception.engines.cuda.fault import answer\nprint(answer(limit_s=0.5))"
    )
    ended = run_program([sys.executable, "-c", program])
    assert ended.stdout.strip() == expected, ended.stderr


def test_a_process_without_cuda_asks_nobody():
    assert cuda_fault.answer() is None


class BreakingEngine(TorchEngine):
    """torch on the CPU whose runs raise ``text``; it remembers being closed."""

    closed = False

    def __init__(self, text):
        super().__init__("cpu")
        self.text = text

    def _run(self, images):
        raise RuntimeError(self.text)

    def _close(self):
        type(self).closed = True


class BrokenAtOpening(BreakingEngine):
    def _open(self, source, spec):
        raise EngineError(f"torch does not run: {self.text}")


class LostAtStatus(BreakingEngine):
    def status(self):
        return BackendStatus("torch", False, why_not=f"the GPU cannot be used: {self.text}")


@pytest.fixture
def candidates(monkeypatch):
    """``candidates(kind, text)`` makes such an engine the first of two; the second works."""

    def make(kind, text):
        monkeypatch.setattr(kind, "closed", False)
        monkeypatch.setattr(
            select,
            "BACKENDS",
            (
                row("broken", "tensorrt", f"{__name__}:{kind.__name__}", text),
                BACKENDS[-1],
            ),
        )

    return make


@pytest.mark.parametrize("kind", [BreakingEngine, BrokenAtOpening, LostAtStatus])
def test_auto_takes_no_other_engine_after_a_lost_gpu_and_frees_nothing_on_it(
    loaded, candidates, kind
):
    candidates(kind, REAL["torch"][1])
    said = LogLines()
    with pytest.raises(GpuLost, match="CUDA error 700"):
        open_engine(EngineSettings(precision="float32"), loaded, batch=1, log=said)
    assert not kind.closed and not any("torch on the CPU" in text for text in said)


@pytest.mark.parametrize("kind", [BreakingEngine, BrokenAtOpening, LostAtStatus])
def test_auto_goes_on_after_memory_that_does_not_suffice(loaded, candidates, kind):
    candidates(kind, PASSING["memory"])
    opened = open_engine(EngineSettings(precision="float32"), loaded, batch=1)
    assert isinstance(opened.engine, TorchEngine) and len(opened.tried) == 1
    assert kind.closed or kind is LostAtStatus
    opened.engine.close()


def test_a_run_that_loses_the_gpu_says_so_and_the_engine_frees_nothing(
    source, pictures, monkeypatch
):
    engine: Engine = TorchEngine("cpu")
    engine.open(source, EngineSpec(2, (64, 64), "float32"))
    closed, works = [], engine._run
    monkeypatch.setattr(engine, "_close", lambda: closed.append(True))
    monkeypatch.setattr(
        engine, "_run", lambda images: (_ for _ in ()).throw(RuntimeError(PASSING["memory"]))
    )
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        engine.infer(pictures[:2])
    monkeypatch.setattr(engine, "_run", works)
    assert engine.infer(pictures[:2]).cls_token.shape[0] == 2
    monkeypatch.setattr(
        engine, "_run", lambda images: (_ for _ in ()).throw(RuntimeError(REAL["TensorRT"][1]))
    )
    with pytest.raises(GpuLost, match="only a new process"):
        engine.infer(pictures[:2])
    engine.close()
    assert not closed


def test_a_tool_that_loses_the_gpu_prints_one_line_and_ends_with_75():
    program = """
import atexit
from vit_perception.engines.cuda.fault import run_program
atexit.register(print, "Python's own end")
def main():
    print("what it did")
    raise RuntimeError("CUDA error: unspecified launch failure")
raise SystemExit(run_program(main, "bench"))
"""
    ended = run_program([sys.executable, "-c", program])
    assert ended.returncode == EXIT_STATUS == 75 and ended.stdout == "what it did\n"
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(
        "bench: the GPU is lost to this process (CUDA error 719, unspecified launch failure"
    )
