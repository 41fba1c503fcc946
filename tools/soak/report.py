"""Figures of a run, what they must be, and both as text."""

import statistics

import numpy as np

from tools.soak.processes import cpu_percent
from tools.soak.robot import Robot
from tools.soak.schedule import Outcome

MOST_GROWTH_PERCENT, LEAST_JUDGED_S, WARM_SHARE = 1.0, 120.0, 0.2


def camera_figures(robot: Robot) -> dict[str, dict]:
    """By camera: what was sent, what the node says it received, and where all of that went."""
    figures = {}
    for camera, books in robot.observer.books.so_far().items():
        sent, measured = robot.sensors[camera].board["sent"], robot.sent_measured[camera]
        figures[camera] = {
            "sent": sent,
            "received": books["received"],
            "published": books["published"],
            "dropped": {
                k.removeprefix("dropped."): n
                for k, n in sorted(books.items())
                if k.startswith("dropped.")
            },
            "pending": books["pending"],
            "damaged": robot.sensors[camera].board["damaged"],
            "compared_sent": measured,
            "compared_lost_in_dds": robot.lost[camera],
        }
    return figures


def balance(figures: dict[str, dict]) -> list[str]:
    """Cameras whose books do not add up."""
    return [
        f"{camera}: received {f['received']} is not published {f['published']} + dropped "
        f"{sum(f['dropped'].values())} + pending {f['pending']}"
        for camera, f in figures.items()
        if f["received"] != f["published"] + sum(f["dropped"].values()) + f["pending"]
    ]


def memory_figures(samples: list[tuple[float, int, float]]) -> dict:
    """Of the node's longest life: without its first fifth, the median of the last quarter against
    the first's.
    """
    lives: dict[int, list[tuple[float, float]]] = {}
    for at_s, pid, used_mb in samples:
        lives.setdefault(pid, []).append((at_s, used_mb))
    longest = max(lives.values(), key=lambda life: life[-1][0] - life[0][0], default=[])
    warm = longest[round(WARM_SHARE * len(longest)) :]
    if len(warm) < 4:
        return {"seconds": 0.0, "growth_percent": None, "judged": False}
    quarter = max(1, len(warm) // 4)
    first_mb, last_mb = (
        statistics.median(mb for _, mb in part) for part in (warm[:quarter], warm[-quarter:])
    )
    lasted_s = warm[-1][0] - warm[0][0]
    return {
        "seconds": round(lasted_s, 1),
        "first_mb": round(first_mb, 1),
        "last_mb": round(last_mb, 1),
        "growth_percent": round(100 * (last_mb / first_mb - 1), 3),
        "judged": lasted_s >= LEAST_JUDGED_S,
    }


def age_figures(robot: Robot) -> dict:
    """Ages of all frames that the observer got."""
    ages = robot.observer.ages
    if not ages.all_ms:
        return {"frames": 0}
    p50, p99 = np.percentile(ages.all_ms, (50, 99))
    return {
        "frames": len(ages.all_ms),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "max_ms": round(max(ages.all_ms), 1),
        "engine_run_p99_ms": round(statistics.median(ages.engine_ms), 1),
        "slop_ms": ages.slop_ms,
        **{f"over_two_{kind}_runs": ages.over[kind] for kind in ("engine", "worker")},
        **{
            f"worst_over_two_{kind}_runs_ms": round(ages.worst[kind], 1)
            for kind in ("engine", "worker")
        },
    }


def measure(robot: Robot, begin_s: float) -> dict:
    """Everything, while the processes still run. ``begin_s``: the run's, monotonic."""
    processes = {"node": robot.node, **{name: s.child for name, s in robot.sensors.items()}}
    books, ages = robot.observer.books, robot.observer.ages
    return {
        "cameras": camera_figures(robot),
        "accounts_checked": books.reports,
        "accounts_wrong": books.wrong,
        "memory": memory_figures(robot.observer.memory),
        "ages": age_figures(robot),
        "latency_ms": {
            k.removeprefix("latency_ms."): v
            for k, v in robot.observer.statuses["latency"][2].items()
        },
        "oldest_frames": [
            {"at_s": round(at_s - begin_s, 1), "age_ms": round(age_ms), "limit_ms": round(limit_ms)}
            for at_s, age_ms, limit_ms in sorted(ages.too_old, key=lambda t: t[2] - t[1])[:20]
        ],
        "diagnostics": {
            name: values for name, (_, _, values) in robot.observer.statuses.items() if " " in name
        },
        "cpu_percent": {
            name: round(cpu_percent(child.pid), 1) for name, child in processes.items()
        },
    }


def failures(outcomes: list[Outcome], figures: dict, age_limit: str) -> list[str]:
    """What is not as promised. ``age_limit`` is what a frame's age is held against: engine or
    worker runs, or none.
    """
    failed = [f"{one.fault}: {one.seen}" for one in outcomes if not one.passed]
    failed += [f"books at one moment: {text}" for text in figures["accounts_wrong"][:3]]
    failed += balance(figures["cameras"])
    if not figures["cameras"] or not all(f["published"] for f in figures["cameras"].values()):
        failed.append("a camera was never published")
    memory, over = figures["memory"], figures["ages"].get(f"over_two_{age_limit}_runs", 0)
    if not figures["ages"]["frames"]:
        failed.append("no frame came")
    if memory["judged"] and memory["growth_percent"] > MOST_GROWTH_PERCENT:
        failed.append(
            f"memory grew by {memory['growth_percent']} %; accepted: {MOST_GROWTH_PERCENT:g} %"
        )
    if over:
        failed.append(
            f"{over} of {figures['ages']['frames']} frames were older than two {age_limit} runs + "
            "slop, by "
            f"{figures['ages'].get(f'worst_over_two_{age_limit}_runs_ms', 0)} ms at most"
        )
    return failed


def table(outcomes: list[Outcome]) -> str:
    """The faults, a line each."""
    lines = [f"{'fault':<34} {'':<5} {'recovery':>9}  expected / seen"]
    for one in outcomes:
        recovery = "" if one.recovery_s is None else f"{one.recovery_s:.2f} s"
        lines += [
            f"{one.fault:<34} {'pass' if one.passed else 'FAIL':<5} {recovery:>9}  {one.expected}",
            f"{'':<51} {one.seen}",
        ]
    return "\n".join(lines)


def text(figures: dict) -> str:
    """The figures, for people."""
    lines = []
    for camera, f in figures["cameras"].items():
        dropped = ", ".join(f"{n} {reason}" for reason, n in f["dropped"].items())
        lines.append(
            f"{camera}: sent {f['sent']}; received {f['received']} = published {f['published']} + "
            "dropped "
            f"({dropped}) + pending {f['pending']}; lost in DDS {f['compared_lost_in_dds']} of "
            f"{f['compared_sent']} compared"
        )
    lines.append(
        f"accounts checked: {figures['accounts_checked']}, wrong: {len(figures['accounts_wrong'])}"
    )
    lines += [
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{key} {value}" for key, value in figures[name].items())
        for name in ("memory", "ages", "latency_ms", "cpu_percent")
    ]
    return "\n".join(lines)
