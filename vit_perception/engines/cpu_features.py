"""Instructions of this machine's processor that matter to the engines, as a sentence."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from vit_perception.config.backends import BACKENDS
from vit_perception.engines.engine import BackendStatus


class _Feature(NamedTuple):
    """What instructions give, whichever of them a processor has."""

    what: str
    # Flags of /proc/cpuinfo, on x86 and on Arm.
    flags: tuple[str, ...]


FEATURES = (
    _Feature("wide vectors", ("avx512f", "avx2", "sve", "asimd")),
    _Feature("bfloat16 products", ("amx_bf16", "avx512_bf16", "bf16")),
    _Feature("float16 products", ("amx_fp16", "avx512_fp16", "asimdhp")),
    _Feature("8-bit products", ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")),
)
_CPU = {row.label for row in BACKENDS if row.device == "cpu"}


def cpu_lines(
    name: str, flags: Collection[str], backends: Sequence[BackendStatus]
) -> tuple[str, str]:
    """Return which of FEATURES the processor ``name`` has by its ``flags``, and what is made of it:
    the precision that each engine of ``backends`` that runs on it takes.
    """
    found = []
    for feature in FEATURES:
        has = [flag for flag in feature.flags if flag in flags]
        found.append(f"{feature.what}: {', '.join(has) or 'no'}")
    takes = [
        f"{status.name} {status.precisions[0]}"
        for status in backends
        if status.found and status.name in _CPU and status.precisions
    ]
    made = f"the engines take: {', '.join(takes)}" if takes else "no engine runs on it"
    return f"{name}; {'; '.join(found) if flags else 'its instructions are not known'}", made
