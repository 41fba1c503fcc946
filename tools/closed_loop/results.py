"""The table: success of each cell with its interval, as text and as JSON."""

import math
from collections import Counter
from statistics import median

from tools.closed_loop.cell import Cell
from tools.closed_loop.forms import USUAL

Z_95 = 1.959963984540054


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927)."""
    if not count:
        return 0.0, 1.0
    share = successes / count
    scale = 1 + Z_95**2 / count
    centre = (share + Z_95**2 / (2 * count)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / count + (Z_95 / (2 * count)) ** 2) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


# What makes two rows the same cell.
_IDENTITY = (
    "task",
    "policy",
    "condition",
    "demonstrations",
    "training_seed",
    "time",
    "form",
    "trouble",
)


def identity(each: dict) -> tuple:
    """Return what tells a row from others."""
    return tuple(each[name] for name in _IDENTITY)


def merged(before: list[dict], now: list[dict]) -> list[dict]:
    """Return the rows of both; where both have a cell, the row with more episodes, else ``now``."""
    rows = {identity(each): each for each in before}
    for each in now:
        other = rows.get(identity(each))
        if other is None or other["episodes"] <= each["episodes"]:
            rows[identity(each)] = each
    return list(rows.values())


def row(cell: Cell, episodes: list[dict]) -> dict:
    """Return a cell's entry of the JSON."""
    done = [each for each in episodes if each["success"]]
    low, high = wilson(len(done), len(episodes))
    failed = Counter(each["progress"] for each in episodes if not each["success"])
    seeds = [each["seed"] for each in episodes]
    return {
        "task": cell.task,
        "policy": cell.policy,
        "condition": cell.condition,
        "demonstrations": cell.demonstrations,
        "training_seed": cell.training_seed,
        "time": "real" if cell.real_time else "lockstep",
        "form": cell.form,
        "trouble": cell.trouble,
        "seeds": [min(seeds), max(seeds)],
        "episodes": len(episodes),
        "successes": len(done),
        "interval_95": [round(low, 3), round(high, 3)],
        "seconds": round(median(each["seconds"] for each in done), 1) if done else None,
        # How far the failed ones came.
        "failed_after": dict(failed),
        "observations": sum(each["observations"] for each in episodes),
        "applied": sum(each["applied"] for each in episodes),
        "missed": sum(each["missed"] for each in episodes),
        "dropped": sum(each.get("dropped", 0) for each in episodes),
    }


def table(rows: list[dict]) -> str:
    """Return the rows as a table in Markdown: one line for a task and condition."""
    policies = list(dict.fromkeys(each["policy"] for each in rows))
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for each in rows:
        parts = [each["condition"]]
        parts += [each["form"]] * (each["form"] != USUAL)
        parts += [each["trouble"]] * (each["trouble"] != "none")
        parts += ["real time"] * (each["time"] == "real")
        key = (each["task"], ", ".join(parts))
        groups.setdefault(key, {}).setdefault(each["policy"], []).append(each)
    lines = [f"| task | condition | {' | '.join(policies)} |", "| --- " * (len(policies) + 2) + "|"]
    for (task, condition), by_policy in groups.items():
        cells = [_shown(by_policy.get(policy, [])) for policy in policies]
        lines.append(f"| {task} | {condition} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(rows: list[dict]) -> str:
    """Return successes of all training seeds together, with their interval."""
    if not rows:
        return "–"
    successes = sum(each["successes"] for each in rows)
    count = sum(each["episodes"] for each in rows)
    low, high = wilson(successes, count)
    return f"{successes}/{count} ({low:.2f}–{high:.2f})"
