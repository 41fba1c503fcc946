"""What the measured rates and stamps mean: settings of grouping and waiting, clocks that differ.

Plain numbers, no ROS.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from vit_perception.config.settings import PoseSettings, SyncSettings
from vit_perception.ros.suggest.seen import TopicSeen

# Cameras whose stamps lie nearer to each other than this part of a period are triggered together.
TRIGGERED_PERIODS = 0.1
# Stamps that are further apart than that, while both streams come, are of clocks that differ.
CLOCKS_DIFFER_S = 1.0
# Stamps that are further ahead of this machine's clock than that were not made by it.
AHEAD_S = 0.005
SILENT_PERIODS = 3.0
SKEW_PERIODS = 0.6  # more than half a period: one of two neighbours is always that near
_MOST_SLOP_S = 1.0  # the parameter's bound
_MOST_SILENT_S = 60.0
_MOST_WAIT_S = 1.0
_MOST_SKEW_S = 2.0


class Setting(NamedTuple):
    """A parameter's value, and where it comes from."""

    name: str
    value: bool | float | str | tuple[str, ...]
    why: str = ""


def sync_settings(cameras: Sequence[TopicSeen]) -> list[Setting]:
    """Return how images of ``cameras`` are to be grouped, and when one counts as silent."""
    settings = []
    periods_s = sorted(p for camera in cameras if (p := camera.period_s) is not None)
    default = SyncSettings()
    if len(cameras) > 1:
        settings.append(_slop(cameras, periods_s))
        settings.append(
            Setting(
                "sync.policy",
                default.policy,
                "a silent camera: wait for it, or mask its tokens",
            )
        )
    if periods_s and SILENT_PERIODS * periods_s[-1] > default.silent_after_s:
        settings.append(
            Setting(
                "sync.silent_after_s",
                min(_MOST_SILENT_S, up(SILENT_PERIODS * periods_s[-1])),
                f"three periods of the slowest camera ({1.0 / periods_s[-1]:.3g} Hz)",
            )
        )
    return settings


def _slop(cameras: Sequence[TopicSeen], periods_s: Sequence[float]) -> Setting:
    name = "sync.slop_s"
    if len(periods_s) < len(cameras):
        return Setting(name, SyncSettings().slop_s, "the default: too few images came to measure")
    apart_s = _farthest_s(cameras)
    if apart_s <= TRIGGERED_PERIODS * periods_s[0]:
        value_s = 0.5 * periods_s[0]
        why = f"half the period of the fastest camera; their stamps are {_ms(apart_s)} apart"
    else:
        value_s = 0.5 * periods_s[-2]
        why = (
            "half the period of the second slowest camera: they run freely, their stamps are up to "
            f"{_ms(apart_s)} apart"
        )
    return Setting(name, min(_MOST_SLOP_S, up(value_s)), why)


def _farthest_s(cameras: Sequence[TopicSeen]) -> float:
    """The largest of the usual distances from an image of the slowest camera to the nearest one of
    another, in s.
    """
    slowest = max(cameras, key=lambda camera: camera.period_s or 0.0)
    distances_s = []
    for camera in cameras:
        if camera is not slowest:
            stamps_ns = sorted({a.stamp_ns for a in camera.arrivals})
            nearest = sorted(_nearest_ns(stamps_ns, a.stamp_ns) for a in slowest.arrivals)
            # The ends of what was heard have no partner: nine in ten tell enough.
            distances_s.append(nearest[int(0.9 * (len(nearest) - 1))] / 1e9)
    return max(distances_s)


def _nearest_ns(stamps_ns: Sequence[int], stamp_ns: int) -> int:
    place = bisect_left(stamps_ns, stamp_ns)
    return min(abs(other - stamp_ns) for other in stamps_ns[max(0, place - 1) : place + 1])


def sample_settings(prefix: str, samples: TopicSeen, cameras: Sequence[TopicSeen]) -> list[Setting]:
    """Return how far from an image a sample may be, and how long one is waited for, where the
    defaults would miss samples. ``prefix`` is that of the parameters, such as ``poses.arm``.
    """
    default = PoseSettings("a", "a", "a")
    settings = []
    period_s = samples.period_s
    if period_s is None:
        return settings
    skew_s = default.max_skew_s
    if SKEW_PERIODS * period_s > skew_s:
        skew_s = min(_MOST_SKEW_S, up(SKEW_PERIODS * period_s))
        why = f"more than half a period, at {samples.rate_text}"
        settings.append(Setting(f"{prefix}.max_skew_s", skew_s, why))
    behind_s = later_than_images_s(samples, cameras)
    if behind_s is not None and 0 < behind_s <= CLOCKS_DIFFER_S and behind_s + period_s > skew_s:
        settings.append(
            Setting(
                f"{prefix}.wait_s",
                min(_MOST_WAIT_S, up(behind_s + period_s)),
                f"samples come {_ms(behind_s)} later than images of the same stamp",
            )
        )
    return settings


def later_than_images_s(samples: TopicSeen, cameras: Sequence[TopicSeen]) -> float | None:
    """Return how much later a sample arrives than an image of the same stamp, in s; None where one
    of them did not come. Of several cameras it is the one that differs most.
    """
    delay_s = samples.delay_s
    delays_s = [d for camera in cameras if (d := camera.delay_s) is not None]
    if delay_s is None or not delays_s:
        return None
    return max((delay_s - other for other in delays_s), key=abs)


def clock_findings(
    cameras: Sequence[TopicSeen], samples: Sequence[TopicSeen]
) -> tuple[list[str], list[str]]:
    """Return what is wrong with the clocks of the stamps, and what is only to be known.

    Each text is one line about topics whose messages came.
    """
    wrong: list[str] = []
    known: list[str] = []
    heard = [t for t in (*cameras, *samples) if t.delay_s is not None]
    delays_s = [t.delay_s or 0.0 for t in heard]
    if not heard:
        return wrong, known
    if max(delays_s) - min(delays_s) <= CLOCKS_DIFFER_S and not _is_ours(delays_s[0]):
        known.append(
            f"all stamps are {_apart(delays_s[0])} this machine's clock: a recording, or one other "
            "clock for all; the node goes by the stamps, so this does no harm"
        )
        return wrong, known
    for camera in cameras[1:]:
        lag_s = later_than_images_s(camera, cameras[:1])
        if lag_s is not None and abs(lag_s) > CLOCKS_DIFFER_S:
            wrong.append(
                f"{camera.name}: its stamps are {_apart(lag_s)} those of {cameras[0].name}: their "
                "images are never one group; synchronise the clocks (chrony, PTP)"
            )
    for each in samples:
        lag_s = later_than_images_s(each, cameras)
        if lag_s is None:
            continue
        if abs(lag_s) > CLOCKS_DIFFER_S:
            wrong.append(
                f"{each.name}: its stamps are {_apart(lag_s)} the images': none is near an image; "
                "synchronise the clocks (chrony, PTP)"
            )
        else:
            when = "later" if lag_s > 0 else "earlier"
            known.append(
                f"{each.name}: its messages come {_ms(abs(lag_s))} {when} than images of the same "
                "stamp"
            )
    for each, delay_s in zip(heard, delays_s, strict=True):
        if not _is_ours(delay_s):
            wrong.append(f"{each.name}: its stamps are {_apart(delay_s)} this machine's clock")
    return wrong, known


def _is_ours(delay_s: float) -> bool:
    """Whether stamps of that age may have been made by this machine's clock."""
    return -AHEAD_S <= delay_s <= CLOCKS_DIFFER_S


def _apart(delay_s: float) -> str:
    """``3.2 s behind``, or ``ahead of``; ``delay_s`` is how much older the stamps are."""
    size_s = abs(delay_s)
    way = "behind" if delay_s > 0 else "ahead of"
    if size_s >= 2 * 86400:
        return f"{size_s / 86400:.0f} days {way}"
    return f"{size_s:.1f} s {way}" if size_s >= 1 else f"{_ms(size_s)} {way}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms"


def up(seconds: float) -> float:
    """Return ``seconds`` rounded up to a millisecond."""
    return math.ceil(round(1e3 * seconds, 6)) / 1e3
