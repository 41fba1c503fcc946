"""In which situation each input is, from its counters. One object from activate to deactivate."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vit_perception.image.video.decoder import NO_KEY_FRAME
from vit_perception.pipeline.timing.latencies import WINDOW_S, rate_hz
from vit_perception.ros.health import situations
from vit_perception.ros.health.situations import Situation, duration
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_history import how_far
from vit_perception.streams.sample_inputs import SampleAccount
from vit_perception.tokens.source import SampledSource

# Until then nothing is missed: publishers are still being found.
FIRST_S = 5.0
# Stamps that are further apart than that, while both streams come, are of clocks that differ.
CLOCKS_DIFFER_NS = 1_000_000_000
# Reasons for a drop that say nothing against the image itself.
_NOT_THE_IMAGE = (
    "superseded",
    "incomplete_group",
    "time_jump",
    "deactivated",
    "decode_behind",
    "gpu_lost",
    "not_finite",
    "engine_error",
    "error",
)


class Finding(NamedTuple):
    """The situation of one input, and what fills the fields of its texts."""

    situation: Situation
    found: dict[str, Any]

    @property
    def text(self) -> str:
        """All of it: what is the case, why, and what to do."""
        return self.situation.text(**self.found)

    @property
    def says(self) -> str:
        """What is the case, alone."""
        return self.situation.says.format(**self.found)


@dataclass
class _Seen:
    """What the last look at an input found."""

    received: int = 0
    published: int = 0
    newest_ns: int = 0  # monotonic, of the newest usable message
    refused_ns: int = 0  # monotonic, of the last look at which only refused messages had come
    dropped: Counter[str] = field(default_factory=Counter)  # when an image last went out


class Judge:
    """Finds the situation of each input. Call it with the lock held, once a second."""

    def __init__(self, started_ns: int):
        self._started_ns = started_ns  # monotonic
        self._seen: dict[str, _Seen] = {}

    def camera(self, camera: str, sync: CameraSync, published_hz: float, now_ns: int) -> Finding:
        """The situation of ``camera``; ``published_hz``: frames of it that go out."""
        account = sync.accounts[camera]
        age_s = sync.age_ns(camera, now_ns) / 1e9
        found: dict[str, Any] = {
            "what": "image",
            "label": "camera",
            "name": camera,
            "age": duration(age_s),
            "since": f"for {duration(age_s)}" if account.arrivals_ns else "has come",
            "window": f"{WINDOW_S:g} s",
            "nearest": "",
        }
        seen = self._look(camera, account.received, account.arrivals_ns, now_ns)
        if account.published > seen.published:
            seen.dropped = account.dropped.copy()
        seen.published = account.published
        new_drops = account.dropped - seen.dropped
        most = max(new_drops, key=new_drops.get, default="still pending")
        found["reason"] = most
        if sync.is_silent(camera, now_ns):
            if self._only_refused(seen, now_ns):
                return Finding(_refused_as(most), found)
            return Finding(self._nothing_comes(bool(account.arrivals_ns), now_ns), found)
        waited_s = {
            other: ns / 1e9
            for other, ns in sync.waited_for(camera, now_ns).items()
            if sync.accounts[other].arrivals_ns or not self._is_early(now_ns)
        }
        if waited_s:
            found["others"] = ", ".join(
                f"camera {other}, silent for {duration(s)}" for other, s in waited_s.items()
            )
            return Finding(situations.WAITING, found)
        arrived_hz = rate_hz(account.arrivals_ns, now_ns)
        if not arrived_hz or published_hz or now_ns - self._started_ns <= WINDOW_S * 1e9:
            return Finding(situations.RECEIVING, found)
        if most == "unmatched":
            apart_ns = sync.apart_ns(camera, now_ns)
            other = max(apart_ns, key=lambda each: abs(apart_ns[each]), default="")
            others = [each for each in sync.cameras if each != camera]
            found["others"] = " or ".join(f"camera {each}" for each in others)
            found["slop"] = f"{sync.slop_ns / 1e9:g} s"
            found["clocks"] = _clocks(apart_ns.get(other, 0), f"those of {other}")
            return Finding(situations.UNMATCHED, found)
        if most == "late":
            return Finding(situations.LATE_IMAGES, found)
        inner = most in _NOT_THE_IMAGE or most.endswith("_missing") or not new_drops
        return Finding(situations.UNPUBLISHED if inner else _refused_as(most), found)

    def sample(self, source: SampledSource, account: SampleAccount, now_ns: int) -> Finding:
        """The situation of a source that is measured apart from the images."""
        what = source.sample_label
        heard_ns = account.arrivals_ns[-1] if account.arrivals_ns else self._started_ns
        age = duration((now_ns - heard_ns) / 1e9)
        group = type(source).group
        policy = f"{group}.policy: {'require' if source.required else 'mask'}"
        consequence = "the frame is dropped" if source.required else "its token is masked"
        most = max(account.refused, key=account.refused.get, default="")
        seen = self._look(source.name, account.received, account.arrivals_ns, now_ns)
        found: dict[str, Any] = {
            "what": what,
            "label": source.label,
            "name": source.name,
            "age": age,
            "since": f"for {age}" if account.received else "has come",
            "trouble": account.trouble,
            "prefix": f"{group}.{source.name}",
            "consequence": f"{consequence} ({policy})" if source.policy else consequence,
            "count": account.refused.total(),
            "reason": most,
            "how_far": how_far(account.nearest_ns),
            "nearest": "" if account.nearest_ns is None else f"; {how_far(account.nearest_ns)}",
            "which": f": {', '.join(account.lacking)}" if account.lacking else "",
            # Of a stream that has ended the last sample gets older: that says nothing of clocks.
            "clocks": "" if account.silent else _clocks(account.ahead_ns or 0, "the image's"),
        }
        if not account.received:
            if account.trouble and not self._is_early(now_ns):
                return Finding(situations.NO_TRANSFORM, found)
            return Finding(self._nothing_comes(False, now_ns), found)
        if account.latest != "missing":
            return Finding(situations.RECEIVING, found)
        if most and (account.nearest_ns is None or self._only_refused(seen, now_ns)):
            return Finding(situations.REFUSED_SAMPLES, found)
        if account.silent and account.arrivals_ns:
            stopped = situations.NO_TRANSFORM if account.trouble else situations.STOPPED
            return Finding(stopped, found)
        return Finding(situations.LATE, found)

    def _nothing_comes(self, came: bool, now_ns: int) -> Situation:
        if came:
            return situations.STOPPED
        return situations.STARTING if self._is_early(now_ns) else situations.NEVER_CAME

    def _is_early(self, now_ns: int) -> bool:
        return now_ns - self._started_ns < FIRST_S * 1e9

    def _look(self, name: str, received: int, arrivals_ns: Any, now_ns: int) -> _Seen:
        """Note what has come since the last look."""
        seen = self._seen.setdefault(name, _Seen())
        newest_ns = arrivals_ns[-1] if arrivals_ns else 0
        if newest_ns != seen.newest_ns:
            seen.refused_ns = 0
        elif received > seen.received:
            seen.refused_ns = now_ns
        seen.received, seen.newest_ns = received, newest_ns
        return seen

    @staticmethod
    def _only_refused(seen: _Seen, now_ns: int) -> bool:
        return bool(seen.refused_ns) and now_ns - seen.refused_ns < WINDOW_S * 1e9


def _refused_as(reason: str) -> Situation:
    return situations.NO_KEY_FRAME if reason == NO_KEY_FRAME else situations.REFUSED


def _clocks(ahead_ns: int, whose: str) -> str:
    if abs(ahead_ns) <= CLOCKS_DIFFER_NS:
        return ""
    way = "ahead of" if ahead_ns > 0 else "behind"
    return f"; the clocks differ: its stamps are {abs(ahead_ns) / 1e9:.1f} s {way} {whose}"
