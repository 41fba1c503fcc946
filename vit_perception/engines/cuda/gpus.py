"""The NVIDIA GPUs of this machine, and which of them a thread uses.

The CUDA driver is asked first: this costs little, and it says precisely what is wrong. torch, which
holds the buffers, is only imported if there is a device.
"""

import ctypes
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType

from vit_perception.engines.engine import EngineError

_DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch describes it."""

    name: str
    # For example "8.7".
    compute_capability: str
    # Those that are active: a Jetson's power mode switches some off.
    multiprocessors: int
    # Rounded.
    memory_gib: int
    l2_cache_kib: int = 0
    # Whether it shares the host's memory.
    integrated: bool = False

    @property
    def traits(self) -> dict:
        """What an engine that was tuned for this GPU depends on, for JSON.

        TensorRT refuses an engine of another compute capability. It warns if L2 cache,
        multiprocessors or ``integrated`` differ ("Compatibility Checks" of its guide, which also
        names bus width, and shared memory and texture alignment, which the compute capability
        fixes). Memory is left out: an engine that does not fit is refused when it is loaded.
        """
        return {
            "name": self.name,
            "compute_capability": self.compute_capability,
            "multiprocessors": self.multiprocessors,
            "l2_cache_kib": self.l2_cache_kib,
            "integrated": self.integrated,
        }

    def __str__(self) -> str:
        return (
            f"{self.name}, compute capability {self.compute_capability}, {self.multiprocessors} "
            f"multiprocessors, {self.memory_gib} GiB"
        )


def find_gpu() -> tuple[Gpu | None, str]:
    """Return the current GPU of this thread, or None and why there is none."""
    torch, fault = _torch_with_cuda()
    if torch is None:
        return None, fault
    try:
        return described(torch, torch.cuda.current_device()), ""
    except RuntimeError as error:  # another process holds the GPU alone, or its memory is full
        return None, f"the GPU cannot be used: {error}"


def _torch_with_cuda() -> tuple[ModuleType | None, str]:
    """Return torch if it can use a GPU; else None and why not."""
    fault = driver_fault()
    if fault:
        return None, fault
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":  # something that torch itself imports
            return None, f"torch, which holds the buffers on the GPU, does not load: {error}"
        return None, "torch, which holds the buffers on the GPU, is not installed"
    except (ImportError, OSError) as error:  # a library of CUDA that torch does not find
        return None, f"torch, which holds the buffers on the GPU, does not load: {error}"
    if torch.version.cuda is None:
        return (
            None,
            f"torch {torch.__version__}, which holds the buffers on the GPU, is built without CUDA",
        )
    if not torch.cuda.is_available():
        return (
            None,
            f"torch {torch.__version__} finds no CUDA device (its CUDA is {torch.version.cuda})",
        )
    return torch, ""


def described(torch: ModuleType, index: int) -> Gpu:
    """Return the GPU of that index, as ``torch`` describes it."""
    found = torch.cuda.get_device_properties(index)
    return Gpu(
        name=found.name,
        compute_capability=f"{found.major}.{found.minor}",
        multiprocessors=found.multi_processor_count,
        memory_gib=round(found.total_memory / 2**30),
        l2_cache_kib=found.L2_cache_size // 1024,
        integrated=bool(found.is_integrated),
    )


def list_gpus() -> tuple[Gpu, ...]:
    """Return every GPU that torch can use, by index."""
    torch, _ = _torch_with_cuda()
    if torch is None:
        return ()
    return tuple(described(torch, index) for index in range(torch.cuda.device_count()))


def on_gpu(index: int) -> AbstractContextManager:
    """Make GPU ``index`` the current one of this thread, for torch and other users of CUDA.

    It does nothing if torch can use no GPU.

    Raises:
        EngineError: There is no GPU of that index.
    """
    torch, _ = _torch_with_cuda()
    if torch is None:
        return nullcontext()
    if index >= (count := torch.cuda.device_count()):
        raise EngineError(f"GPU {index} is asked for; accepted: {accepted_indices(count)}")
    return torch.cuda.device(index)


def named(gpu: Gpu, index: int) -> str:
    """Return the GPU's name for people, with its index unless it is the first."""
    return f"{gpu.name} (GPU {index})" if index else gpu.name


def accepted_indices(count: int) -> str:
    """Say what ``engine.device`` may be with ``count`` GPUs; 0 is accepted without a GPU, too."""
    there = {0: "there is no GPU here", 1: "there is one GPU here"}.get(
        count, f"there are {count} GPUs here"
    )
    return f"0{f' to {count - 1}' if count > 1 else ''} ({there})"


def driver_fault() -> str:
    """Return "" if NVIDIA's driver has a device, else what it says."""
    return _driver_devices()[1]


def gpu_count() -> int:
    """Count the GPUs that NVIDIA's driver has for this process, without torch or a GPU context."""
    return _driver_devices()[0]


def _driver_devices() -> tuple[int, str]:
    """Return the number of devices and "", or 0 and what is wrong."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0, f"no CUDA device: the NVIDIA driver's library {_DRIVER} is not there"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(text))
        return (
            0,
            f"no CUDA device: the driver says {(text.value or b'an unknown error').decode()} "
            f"({code})",
        )
    return count.value, "" if count.value else "no CUDA device: the driver finds none"
