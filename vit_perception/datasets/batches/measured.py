"""How far frames that were encoded together are from frames that were encoded one by one."""

from collections.abc import Sequence


def measured_together(measured: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the manifest's entry ``batch`` of the figures of each source; {} without any.

    It has the worst figure of each kind, and the number of images of all. Cosines are worst where
    they are lowest, relative L2 where it is highest.
    """
    if not measured:
        return {}
    worst = {
        name: (max if name.endswith("_l2") else min)(figures[name] for figures in measured)
        for name in measured[0]
    }
    return {"batch": worst | {"images": sum(figures["images"] for figures in measured)}}
