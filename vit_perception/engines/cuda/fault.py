"""Faults of a GPU that a process cannot recover from.

After an illegal access, a failed launch, an assert or damaged memory, CUDA returns the same error
to every later call of the process. Then no other engine may silently take over, and nothing may
wait for the GPU. The process ends with EXIT_STATUS, and whoever started it starts it again.

Sources: the comments of cudaError in driver_types.h of CUDA 12.9 and 13.0 ("the process must be
terminated and relaunched") and the texts of cudaGetErrorString there.
"""

import ctypes
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from vit_perception.files.errors import OperationFailed, printable

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: a new process may succeed
ANSWER_S = 5.0  # the longest wait for the driver to say whether the context works
_MOST_TOLD = 400
_MOST_CAUSES = 20


class Fault(NamedTuple):
    """A fault of a GPU."""

    name: str  # in CUDA's runtime
    text: str  # what CUDA says


# By the code of CUDA. CUDA's documentation says that the process must be
# terminated, except for three: uncorrectable errors of memory (214) and NVLink (220), and a context
# that was destroyed (709).
STICKY = {
    214: Fault("cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"),
    220: Fault(
        "cudaErrorNvlinkUncorrectable",
        "uncorrectable NVLink error detected during the execution",
    ),
    226: Fault(
        "cudaErrorContained",
        "Invalid access of peer GPU memory over nvlink or a hardware error",
    ),
    700: Fault("cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    702: Fault("cudaErrorLaunchTimeout", "the launch timed out and was terminated"),
    709: Fault("cudaErrorContextIsDestroyed", "context is destroyed"),
    710: Fault("cudaErrorAssert", "device-side assert triggered"),
    714: Fault("cudaErrorHardwareStackError", "hardware stack error"),
    715: Fault("cudaErrorIllegalInstruction", "an illegal instruction was encountered"),
    716: Fault("cudaErrorMisalignedAddress", "misaligned address"),
    717: Fault(
        "cudaErrorInvalidAddressSpace", "operation not supported on global/shared address space"
    ),
    718: Fault("cudaErrorInvalidPc", "invalid program counter"),
    719: Fault("cudaErrorLaunchFailure", "unspecified launch failure"),
    721: Fault("cudaErrorTensorMemoryLeak", "tensor memory not completely freed"),
    810: Fault("cudaErrorMpsClientTerminated", "the MPS client has been terminated by the server"),
    911: Fault(
        "cudaErrorExternalDevice",
        "an async error has occured in external entity outside of CUDA",
    ),
}
# cudaErrorUnknown: a driver that still returns it when asked does not recover.
_UNKNOWN = 999

# One of these must be in a text about CUDA: a library for the CPU may report a misaligned address.
_OF_CUDA = re.compile(
    r"cuda|cudnn|cublas|myelin|cask|tensorrt|nvidia|gpu|accelerator", re.IGNORECASE
)
# The codes as libraries write them: "CUDA failure 700: ..." (ONNX Runtime), "CUDA error 719
# launching ..." (Myelin).
_NUMBER = re.compile(
    r"\bcuda (?:driver |runtime )?(?:failure|error):? ?(?:code )?\(?(\d{3})\b", re.IGNORECASE
)
# Libraries on top of CUDA say that a kernel did not run, but not why: "Error Code 1: Cask (...)".
_UNCLEAR = re.compile(
    r"Error Code 1: (?:Cask|Cudnn|Cublas|CuTensor|Myelin)|Cask Error|Platform \(Cuda\) error"
    r"|(?:CUDNN|CUBLAS)_STATUS_EXECUTION_FAILED|cudaErrorUnknown|CUDA_ERROR_UNKNOWN"
    r"|\bcuda(?: driver| runtime)?(?: error:| failure 999:?| \() ?unknown error",
    re.IGNORECASE,
)
# Too little memory: the context still works.
_OUT_OF_MEMORY = re.compile(
    r"out of ?memory|ALLOC_FAILED|cudaErrorMemoryAllocation|cuda (?:error|failure):? 2\b",
    re.IGNORECASE,
)


class GpuLost(OperationFailed):
    """The CUDA context of this process is lost, and the process has to end with EXIT_STATUS.

    It is not an EngineError: after one of those another engine may be tried, after this none.
    """


def _pattern(name: str, text: str) -> re.Pattern:
    """Return a pattern for ``text`` and for the name, as the runtime and the driver write it."""
    words = re.findall(r"ECC|[A-Z][a-z]+", name.removeprefix("cudaError"))
    words = ["Fail(?:ure|ed)" if word == "Failure" else word for word in words]
    return re.compile(f"{re.escape(text)}|cuda_?error_?{'_?'.join(words)}", re.IGNORECASE)


_PATTERNS = {code: _pattern(*known) for code, known in STICKY.items()}


def code_in(text: str) -> int:
    """Return the code in STICKY of the fault that ``text`` reports; 0 if it reports none."""
    if not _OF_CUDA.search(text):
        return 0
    numbers = (int(found) for found in _NUMBER.findall(text))
    return next((n for n in numbers if n in STICKY), 0) or next(
        (c for c, p in _PATTERNS.items() if p.search(text)), 0
    )


def lost(error: BaseException, ask: Callable[[], int | None] | None = None) -> GpuLost | None:
    """Return ``error`` as GpuLost if this process cannot recover from it or its cause, else None.

    The texts of cuDNN, cuBLAS and parts of TensorRT leave it open. Then ``ask`` decides, by default
    :func:`answer`. Only a GPU's library writes such texts, so without an answer the GPU counts as
    lost. An error that :func:`elsewhere` marked, or that such an error caused, does not count.
    """
    causes = _causes(error)
    if any(getattr(each, "_elsewhere", False) for each in causes):
        return None
    for each in causes:
        if isinstance(each, GpuLost):
            return each
        text = f"{type(each).__name__}: {' '.join(map(str, each.args)) or each}"
        code = getattr(each, "error_code", None)  # torch.AcceleratorError's, where CUDA gave one
        code = code if code in STICKY else code_in(text)
        if code:
            return _gpu_lost(each, f"CUDA error {code}, {STICKY[code].text}")
        if _UNCLEAR.search(text) and not _OUT_OF_MEMORY.search(text):
            said = (ask or answer)()
            if said in STICKY:
                return _gpu_lost(each, f"CUDA error {said}, {STICKY[said].text}")
            if said is None or said == _UNKNOWN:
                return _gpu_lost(
                    each, "a kernel did not run, and CUDA does not say that anything still does"
                )
    return None


def elsewhere(error: Exception) -> Exception:
    """Mark ``error``: its text is about another process's GPU context, and this one works."""
    error._elsewhere = True
    return error


def _causes(error: BaseException) -> list[BaseException]:
    """Return ``error`` and the errors that it was raised from, the newest first."""
    found: list[BaseException] = []
    while error is not None and error not in found and len(found) < _MOST_CAUSES:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _gpu_lost(error: BaseException, fault: str) -> GpuLost:
    said = printable(" ".join(str(error).split()), _MOST_TOLD)
    return GpuLost(
        f"the GPU is lost to this process ({fault}): {said}; only a new process can use it again"
    )


def answer(limit_s: float = ANSWER_S) -> int | None:
    """Wait for the calling thread's CUDA context; return 0, or the code of an error.

    None means that there is no answer within ``limit_s``, or that this thread has no context.
    """
    try:
        # Only if this process uses it already.
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return None
    context = ctypes.c_void_p()
    codes = []
    if driver.cuCtxGetCurrent(ctypes.byref(context)) or not context:
        return None

    def wait() -> None:
        codes.append(driver.cuCtxSetCurrent(context) or driver.cuCtxSynchronize())

    # A daemon: nothing can stop a call that hangs.
    waiting = threading.Thread(target=wait, name="asks CUDA", daemon=True)
    waiting.start()
    waiting.join(limit_s)
    return codes[0] if codes else None


def end_process(status: int = EXIT_STATUS) -> NoReturn:
    """End the process now, after flushing what it printed and logged.

    Python's own end would free memory on the GPU, and such calls may hang or abort.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed, missing, or a pipe that nobody reads.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def run_program(main: Callable[[], int], name: str) -> int:
    """Return what ``main`` returns.

    If ``main`` loses the GPU, one line on stderr says so, and the process ends with EXIT_STATUS.
    """
    try:
        return main()
    except Exception as error:
        gone = lost(error)
        if gone is None:
            raise
        print(f"{name}: {gone}. Exit status {EXIT_STATUS}: start it again", file=sys.stderr)
        end_process()
