"""The NVIDIA GPUs of this machine: which there are, and which one a thread uses.

The CUDA driver is asked first, which costs little and says precisely what is wrong; torch, which
holds the buffers, is imported where there is a device.
"""

import ctypes
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType

from vit_perception.engines.engine import EngineError

_DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch describes it; ``multiprocessors`` are those that are active, ``memory_gib`` is
    rounded.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    memory_gib: int
    l2_cache_kib: int = 0
    integrated: bool = False

    @property
    def traits(self) -> dict:
        """What an engine that was tuned for this GPU depends on, for JSON.

        TensorRT refuses an engine of another compute capability, and warns where L2 cache,
        multiprocessors or being integrated differ ("Compatibility Checks" of its guide, which also
        names shared memory and texture alignment, the same for a compute capability, and the bus
        width). Not the memory: what does not fit is refused when it is loaded.
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
            "multiprocessors, "
            f"{self.memory_gib} GiB"
        )


def find_gpu() -> tuple[Gpu | None, str]:
    """The current GPU of this thread, or None and why there is none."""
    torch, fault = _torch_with_cuda()
    if torch is None:
        return None, fault
    try:
        return described(torch, torch.cuda.current_device()), ""
    except RuntimeError as error:  # another process holds the GPU alone, or its memory is full
        return None, f"the GPU cannot be used: {error}"


def _torch_with_cuda() -> tuple[ModuleType | None, str]:
    """torch, where it can use a GPU; else None and why not."""
    fault = driver_fault()
    if fault:
        return None, fault
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":  # something that torch itself imports
            return None, f"torch, which holds the buffers on the GPU, does not load: {error}"
        return None, "torch, which holds the buffers on the GPU, is not installed"
    except (
        ImportError,
        OSError,
    ) as error:  # a library of CUDA that is not where torch looks, such as libcudss
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
    """The GPU of that index, as ``torch`` knows it."""
    found = torch.cuda.get_device_properties(index)
    return Gpu(
        found.name,
        f"{found.major}.{found.minor}",
        found.multi_processor_count,
        round(found.total_memory / 2**30),
        found.L2_cache_size // 1024,
        bool(found.is_integrated),
    )


def list_gpus() -> tuple[Gpu, ...]:
    """Every GPU that torch can use, by index; none where it can use none."""
    torch, _ = _torch_with_cuda()
    if torch is None:
        return ()
    return tuple(described(torch, index) for index in range(torch.cuda.device_count()))


def on_gpu(index: int) -> AbstractContextManager:
    """Make GPU ``index`` the current one of this thread: for torch, and for what else uses CUDA in
    it.

    Does nothing where torch can use no GPU. Raises EngineError where there is no GPU of that index.
    """
    torch, _ = _torch_with_cuda()
    if torch is None:
        return nullcontext()
    if index >= (count := torch.cuda.device_count()):
        raise EngineError(f"GPU {index} is asked for; accepted: {accepted_indices(count)}")
    return torch.cuda.device(index)


def named(gpu: Gpu, index: int) -> str:
    """The GPU's name for people, with its index where that is not the first."""
    return f"{gpu.name} (GPU {index})" if index else gpu.name


def accepted_indices(count: int) -> str:
    """What the setting ``engine.device`` may be where there are ``count`` GPUs; 0 also where there
    is none.
    """
    there = {0: "there is no GPU here", 1: "there is one GPU here"}.get(
        count, f"there are {count} GPUs here"
    )
    return f"0{f' to {count - 1}' if count > 1 else ''} ({there})"


def driver_fault() -> str:
    """``""`` when NVIDIA's driver has a device, else what it says."""
    return _driver_devices()[1]


def gpu_count() -> int:
    """How many GPUs NVIDIA's driver has for this process. Loads neither torch nor a GPU's
    context.
    """
    return _driver_devices()[0]


def _driver_devices() -> tuple[int, str]:
    """(number of devices, ``""``), or 0 and what is wrong."""
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
