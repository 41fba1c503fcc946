"""Faults of a GPU that only a new process can get over.

After an illegal access, a launch that failed, an assert or damaged memory CUDA gives the same error
to every later call of the process. Another engine must not take over in silence then, and nothing
may wait for the GPU: the process ends with EXIT_STATUS, and whoever started it starts it again.

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
from typing import NoReturn

from vit_perception.files.errors import OperationFailed, printable

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: what was asked for may well succeed in a new process
ANSWER_S = 5.0  # how long the driver may take to say whether the context still works
_MOST_TOLD = 400
_MOST_CAUSES = 20

# Code: (name in CUDA's runtime, what CUDA says). CUDA's documentation says that the process must be
# terminated, but for three: errors of memory (214) and NVLink (220) that cannot be corrected, and a
# context that is no more (709).
STICKY = {
    214: ("cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"),
    220: (
        "cudaErrorNvlinkUncorrectable",
        "uncorrectable NVLink error detected during the execution",
    ),
    226: (
        "cudaErrorContained",
        "Invalid access of peer GPU memory over nvlink or a hardware error",
    ),
    700: ("cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    702: ("cudaErrorLaunchTimeout", "the launch timed out and was terminated"),
    709: ("cudaErrorContextIsDestroyed", "context is destroyed"),
    710: ("cudaErrorAssert", "device-side assert triggered"),
    714: ("cudaErrorHardwareStackError", "hardware stack error"),
    715: ("cudaErrorIllegalInstruction", "an illegal instruction was encountered"),
    716: ("cudaErrorMisalignedAddress", "misaligned address"),
    717: ("cudaErrorInvalidAddressSpace", "operation not supported on global/shared address space"),
    718: ("cudaErrorInvalidPc", "invalid program counter"),
    719: ("cudaErrorLaunchFailure", "unspecified launch failure"),
    721: ("cudaErrorTensorMemoryLeak", "tensor memory not completely freed"),
    810: ("cudaErrorMpsClientTerminated", "the MPS client has been terminated by the server"),
    911: (
        "cudaErrorExternalDevice",
        "an async error has occured in external entity outside of CUDA",
    ),
}
_UNKNOWN = 999  # cudaErrorUnknown: a driver that still gives it when it is asked does nothing more

# Any of these texts says that CUDA is meant: a library for the CPU may have a misaligned address of
# its own.
_OF_CUDA = re.compile(
    r"cuda|cudnn|cublas|myelin|cask|tensorrt|nvidia|gpu|accelerator", re.IGNORECASE
)
# The codes as libraries write them: "CUDA failure 700: ..." (ONNX Runtime), "CUDA error 719
# launching ..." (Myelin).
_NUMBER = re.compile(
    r"\bcuda (?:driver |runtime )?(?:failure|error):? ?(?:code )?\(?(\d{3})\b", re.IGNORECASE
)
# Libraries on top of CUDA say that a kernel did not run, and not why: "Error Code 1: Cask (...)" of
# TensorRT, cuDNN.
_UNCLEAR = re.compile(
    r"Error Code 1: (?:Cask|Cudnn|Cublas|CuTensor|Myelin)|Cask Error|Platform \(Cuda\) error"
    r"|(?:CUDNN|CUBLAS)_STATUS_EXECUTION_FAILED|cudaErrorUnknown|CUDA_ERROR_UNKNOWN"
    r"|\bcuda(?: driver| runtime)?(?: error:| failure 999:?| \() ?unknown error",
    re.IGNORECASE,
)
# Memory that does not suffice: the context works on, and less may be asked of it.
_OUT_OF_MEMORY = re.compile(
    r"out of ?memory|ALLOC_FAILED|cudaErrorMemoryAllocation|cuda (?:error|failure):? 2\b",
    re.IGNORECASE,
)


class GpuLost(OperationFailed):
    """The CUDA context of this process is lost, and the process has to end with EXIT_STATUS.

    No EngineError: whoever goes on to another engine after one of those must not do so after this.
    """


def _pattern(name: str, text: str) -> re.Pattern:
    """What finds ``text`` and the name, as the runtime and the driver (CUDA_ERROR_LAUNCH_FAILED)
    have it.
    """
    words = re.findall(r"ECC|[A-Z][a-z]+", name.removeprefix("cudaError"))
    words = ["Fail(?:ure|ed)" if word == "Failure" else word for word in words]
    return re.compile(f"{re.escape(text)}|cuda_?error_?{'_?'.join(words)}", re.IGNORECASE)


_PATTERNS = {code: _pattern(*known) for code, known in STICKY.items()}


def code_in(text: str) -> int:
    """The code in STICKY of the fault that ``text`` tells of, 0 where it tells of none."""
    if not _OF_CUDA.search(text):
        return 0
    numbers = (int(found) for found in _NUMBER.findall(text))
    return next((n for n in numbers if n in STICKY), 0) or next(
        (c for c, p in _PATTERNS.items() if p.search(text)), 0
    )


def lost(error: BaseException, ask: Callable[[], int | None] | None = None) -> GpuLost | None:
    """``error`` as GpuLost where only a new process gets over it or what caused it; None for every
    other error.

    Where the text leaves it open (cuDNN, cuBLAS and parts of TensorRT), ``ask`` decides:
    :func:`answer` by default. Nobody but a GPU's library writes such texts; where nobody can be
    asked, the GPU counts as lost. An error that :func:`elsewhere` has marked, or that it caused, is
    none of this process's.
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
            return _gpu_lost(each, f"CUDA error {code}, {STICKY[code][1]}")
        if _UNCLEAR.search(text) and not _OUT_OF_MEMORY.search(text):
            said = (ask or answer)()
            if said in STICKY:
                return _gpu_lost(each, f"CUDA error {said}, {STICKY[said][1]}")
            if said is None or said == _UNKNOWN:
                return _gpu_lost(
                    each, "a kernel did not run, and CUDA does not say that anything still does"
                )
    return None


def elsewhere(error: Exception) -> Exception:
    """``error``, marked: what its text says of a GPU is not said of this process's context, which
    works.
    """
    error._elsewhere = True
    return error


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it was raised from or in the handling of, the newest first."""
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
    """What CUDA says of the calling thread's context when it is waited for: 0, or an error's code.

    None where it does not answer within ``limit_s``, or where this thread has no context that could
    be asked.
    """
    try:
        driver = ctypes.CDLL(
            "libcuda.so.1", mode=os.RTLD_NOLOAD
        )  # only where this process uses it already
    except OSError:
        return None
    context, codes = ctypes.c_void_p(), []
    if driver.cuCtxGetCurrent(ctypes.byref(context)) or not context:
        return None

    def wait() -> None:
        codes.append(driver.cuCtxSetCurrent(context) or driver.cuCtxSynchronize())

    waiting = threading.Thread(
        target=wait, name="asks CUDA", daemon=True
    )  # nothing can stop a call that hangs
    waiting.start()
    waiting.join(limit_s)
    return codes[0] if codes else None


def end_process(status: int = EXIT_STATUS) -> NoReturn:
    """End the process now, what it has printed and logged being out.

    Python's own end would free what lies on the GPU, and such calls may hang or abort.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # It may be closed, a pipe that nobody reads, or not there at all.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def run_program(main: Callable[[], int], name: str) -> int:
    """What ``main`` gives. Where it loses the GPU: one line on stderr, and the end of the process
    with EXIT_STATUS.
    """
    try:
        return main()
    except Exception as error:
        gone = lost(error)
        if gone is None:
            raise
        print(f"{name}: {gone}. Exit status {EXIT_STATUS}: start it again", file=sys.stderr)
        end_process()
