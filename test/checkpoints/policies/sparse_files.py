"""Large safetensors files that take little of the disk, and how much of a file is in memory."""

import ctypes
import json
import mmap
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GB = 1 << 30
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def write_sparse(path: Path, tensors: dict[str, Tensor | int]) -> None:
    """Write a safetensors file; a number stands for so many bytes of holes."""
    header = {}
    offset = 0
    for name, tensor in tensors.items():
        is_hole = isinstance(tensor, int)
        length = tensor if is_hole else tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": "U8" if is_hole else _DTYPES[tensor.dtype],
            "shape": [length] if is_hole else list(tensor.shape),
            "data_offsets": [offset, offset + length],
        }
        offset += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for name, tensor in tensors.items():
            file.seek(start + header[name]["data_offsets"][0])
            if not isinstance(tensor, int):
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy())
        file.truncate(start + offset)
    forget(path)


def forget(path: Path) -> None:
    """Take a file out of the system's memory, so that what is read next comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_in_memory(path: Path) -> int:
    """How much of a file the system holds in memory: what was read of it, and ahead."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        view = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(view) // mmap.PAGESIZE), np.uint8)
        arguments = (view.ctypes.data, len(view), pages.ctypes.data)
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        assert mincore(*(ctypes.c_void_p(argument) for argument in arguments)) == 0
        del view
    return int((pages & 1).sum()) * mmap.PAGESIZE


def file_bytes_in_this_process() -> int:
    """Pages of mapped files that this process holds."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssFile:\s+(\d+)", status)[1]) << 10
