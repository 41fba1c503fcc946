"""How much memory an export and a build take, and how much is free: to refuse is better than to
be killed.

``benchmarks/build_memory.py`` measures it, and docs/engines.md has the table.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vit_perception.engines.engine import EngineError

if TYPE_CHECKING:
    from torch import nn

# Python with its libraries, and the cost of each byte of weights. TensorRT-RTX 1.7 and torch 2.13
# take 80 to 100 % of this with ViT-S, B and L.
_EXPORT_BASE_BYTES = 400 << 20
_BUILD_BASE_BYTES = 350 << 20
_EXPORT_FACTORS = {
    "float32": 1.1,
    "float16": 2.0,
    "bfloat16": 2.0,
}  # of the weights in float32: half is a copy more
_BUILD_FACTOR = 3.3  # of the weights in the engine's precision
_BYTES_A_WEIGHT = {"float32": 4, "float16": 2, "bfloat16": 2}
_UNBOUND = 1 << 62
HELP = (
    "close what else needs memory, add swap, or build on another machine and set engine.file "
    "(docs/engines.md)"
)


def gib(count: int) -> str:
    """Return ``count`` bytes as text, in GiB."""
    return f"{count / (1 << 30):.2f} GiB"


def weights_of(graph: "nn.Module") -> int:
    """Count the graph's weights: parameters, and buffers, which are in the file as well."""
    return sum(tensor.numel() for tensor in (*graph.parameters(), *graph.buffers()))


def export_bytes(weights: int, precision: str) -> int:
    """Return the most that the process of an export takes, for a graph of ``weights`` weights."""
    return _EXPORT_BASE_BYTES + round(weights * 4 * _EXPORT_FACTORS[precision])


def build_bytes(weights: int, precision: str, workspace_bytes: int = 0) -> int:
    """Return the most that the process of a build takes.

    ``workspace_bytes`` is added if the build's workspace may be in the host's memory, too.
    """
    return (
        _BUILD_BASE_BYTES
        + round(weights * _BYTES_A_WEIGHT[precision] * _BUILD_FACTOR)
        + workspace_bytes
    )


@dataclass(frozen=True)
class FreeMemory:
    """Memory that is free."""

    # Without swapping.
    available_bytes: int
    # More, with swapping.
    swap_bytes: int
    # The file or the control group that these figures come from.
    limit: str

    @property
    def total_bytes(self) -> int:
        return self.available_bytes + self.swap_bytes

    def __str__(self) -> str:
        return (
            f"{gib(self.available_bytes)} are free and {gib(self.swap_bytes)} of swap "
            f"({self.limit})"
        )


class NotEnoughMemory(EngineError):
    """Less memory is free than an export or a build takes."""


def check(doing: str, needed_bytes: int) -> None:
    """Check that ``needed_bytes`` of memory are free.

    Raises:
        NotEnoughMemory: Less is free; the message has the figures and what would help.
    """
    free = free_memory()
    if free.total_bytes < needed_bytes:
        raise NotEnoughMemory(
            f"{doing} takes up to {gib(needed_bytes)} of memory, and {free}: {HELP}; "
            "engine.check_memory: false tries nevertheless"
        )


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> FreeMemory:
    """Return what this process and its children may still take.

    It is the least of what the machine (``MemAvailable`` and ``SwapFree``) and each control group
    with a limit (version 1 and 2) leave. Unused pages of files count as free. If nothing can be
    read, there is no bound.
    """
    meminfo = dict(re.findall(r"^(\w+): +(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE))
    available = int(meminfo["MemAvailable"]) << 10 if "MemAvailable" in meminfo else _UNBOUND
    machine = FreeMemory(available, int(meminfo.get("SwapFree", 0)) << 10, str(proc / "meminfo"))
    limits = [machine]
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if number == "0":
            limits += [_left_of_2(folder, machine.swap_bytes) for folder in _upwards(cgroups, path)]
        elif "memory" in controllers.split(","):
            limits += [
                _left_of_1(folder, machine.swap_bytes)
                for folder in _upwards(cgroups / "memory", path)
            ]
    return min(limits, key=lambda free: free.total_bytes)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield the group's folder and those above it, whose limits hold as well.

    In a container ``path`` may be the host's, and only ``root`` is visible. A folder that is not
    there has no limit.
    """
    folder = root / path.lstrip("/")
    yield folder
    yield from (above for above in folder.parents if above == root or root in above.parents)


def _left_of_2(folder: Path, swap_bytes: int) -> FreeMemory:
    left = (
        _number(folder / "memory.max")
        - _number(folder / "memory.current", 0)
        + _file_pages(folder, "inactive_file")
    )
    swap_left = _number(folder / "memory.swap.max") - _number(folder / "memory.swap.current", 0)
    return FreeMemory(max(0, left), max(0, min(swap_left, swap_bytes)), str(folder))


def _left_of_1(folder: Path, swap_bytes: int) -> FreeMemory:
    unused = _number(folder / "memory.limit_in_bytes") - _number(
        folder / "memory.usage_in_bytes", 0
    )
    # This limit is one of memory and swap together.
    both = _number(folder / "memory.memsw.limit_in_bytes") - _number(
        folder / "memory.memsw.usage_in_bytes", 0
    )
    left = unused + _file_pages(folder, "total_inactive_file")
    return FreeMemory(max(0, left), max(0, min(both - unused, swap_bytes)), str(folder))


def _file_pages(folder: Path, name: str) -> int:
    found = re.search(rf"^{name} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return int(found[1]) if found else 0


def _number(path: Path, otherwise: int = _UNBOUND) -> int:
    """Read the value of a control group's file; ``otherwise`` for "max" or a missing file."""
    text = _text(path).strip()
    return min(int(text), _UNBOUND) if text.isdecimal() else otherwise


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
