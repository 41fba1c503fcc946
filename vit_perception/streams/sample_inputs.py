"""The node's samples: counters of received messages, and the values at an image's stamp."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.streams.source_streams import Sampled, SourceStreams
from vit_perception.wire.records import BadInput, SampleAtImage, TokenGroup

# A source that sends nothing usable for this time is not waited for until it sends again.
SILENT_S = 1.0


@dataclass
class SampleAccount:
    """The counters of one source, and what its latest look-up gave."""

    received: int = 0  # messages
    refused: Counter[str] = field(default_factory=Counter)  # messages by reason
    statuses: Counter[str] = field(default_factory=Counter)  # look-ups by status
    latest: str = ""  # status of the latest image
    skew_ms: deque[float] = field(default_factory=lambda: deque(maxlen=500))  # of latest images
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=5000))  # monotonic
    lacking: tuple[str, ...] = ()  # joints that the latest image missed
    trouble: str = ""  # what TF says if it has no pose
    nearest_ns: int | None = None  # how much later than the latest image the nearest sample was
    ahead_ns: int | None = None  # how much later than the latest image the newest sample was
    silent: bool = False  # nothing usable had arrived for a while
    crowded_out: int = 0  # samples forgotten because there were too many


class SampleInputs:
    """The streams of all sources under one condition: ``add`` notifies it, ``at`` waits on it."""

    def __init__(self, sources: Sequence[Sampled], changed: threading.Condition):
        self._changed = changed
        self._streams = SourceStreams(sources)
        self.accounts = {source.name: SampleAccount() for source in sources}
        # Of each source that is made of others: how often none of its tokens was there, by reason,
        # and why at the latest frame; empty if they were.
        self.masked: dict[str, Counter[str]] = {}
        self.why_masked: dict[str, str] = {}
        self._begun_ns = time.monotonic_ns()
        self._needed_ns: Callable[[], int | None] = lambda: None

    def keep_for(self, needed_ns: Callable[[], int | None]) -> None:
        """Keep samples around ``needed_ns()``, the oldest stamp of an unfinished image.

        It is called under the lock. Without it only the last seconds are kept, and an encoder run
        that takes longer finds no samples.
        """
        with self._changed:
            self._needed_ns = needed_ns

    def configure(self, sources: Sequence[Sampled]) -> None:
        """Use the times of ``sources``, which have the same names, from the next look-up on."""
        with self._changed:
            for source in sources:
                self._streams.by_name[source.name].source = source

    def add(self, name: str, message: Any) -> None:
        """Take one message of the source ``name``.

        Raises:
            BadInput: it cannot be used; it is counted first.
        """
        with self._changed:
            account = self.accounts[name]
            stream = self._streams.by_name[name]
            account.received += 1
            try:
                stream.add(message, self._needed_ns())
            except BadInput as error:
                account.refused[error.reason] += 1
                raise
            account.arrivals_ns.append(time.monotonic_ns())
            account.crowded_out = stream.history.crowded_out
            self._changed.notify_all()

    def at(self, stamp_ns: int) -> dict[str, SampleAtImage[Any]]:
        """Return the value of each source at ``stamp_ns``.

        It waits at most each source's ``wait_s`` for a sample at or after the stamp, and not for a
        silent source. It is called after inference, when usually all samples have arrived.
        """
        started = time.monotonic()
        with self._changed:
            for name, stream in self._streams.by_name.items():
                if self._is_silent(name):
                    continue
                self._changed.wait_for(
                    lambda s=stream: s.history.covers(stamp_ns),  # type: ignore[misc]
                    timeout=max(0.0, started + stream.source.wait_s - time.monotonic()),
                )
            samples = self._streams.at(stamp_ns)
            for name, found in samples.items():
                self._note(name, found, stamp_ns)
            return samples

    def _is_silent(self, name: str) -> bool:
        """Whether no usable sample arrived recently; those of a usable stream are 2 skews apart."""
        arrivals_ns = self.accounts[name].arrivals_ns
        heard_ns = arrivals_ns[-1] if arrivals_ns else self._begun_ns
        lately_s = max(SILENT_S, 2 * self._streams.by_name[name].source.max_skew_s)
        return time.monotonic_ns() - heard_ns > lately_s * 1e9

    def _note(self, name: str, found: SampleAtImage[Any], stamp_ns: int) -> None:
        account = self.accounts[name]
        newest_ns = self._streams.by_name[name].history.newest_ns
        account.statuses[found.status] += 1
        account.latest = found.status
        account.lacking = found.lacking
        account.nearest_ns = found.nearest_ns
        account.silent = self._is_silent(name)
        account.ahead_ns = None if newest_ns is None else newest_ns - stamp_ns
        if found.skew_ns is not None:
            account.skew_ms.append(found.skew_ns / 1e6)

    def note_masked(self, groups: Iterable[TokenGroup]) -> None:
        """Count the groups of one frame that say why none of their tokens is there."""
        with self._changed:
            # A source with several groups says the same of each, or only of some.
            reasons: dict[str, dict[str, str]] = {}
            for group in groups:
                said = reasons.setdefault(group.source, {})
                if group.why:
                    said.setdefault(group.why.reason, str(group.why))
            for source, texts in reasons.items():
                self.why_masked[source] = "; ".join(texts.values())
                if texts:
                    self.masked.setdefault(source, Counter()).update(list(texts))

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what was before the jump.

        Histories that have also jumped are kept.
        """
        with self._changed:
            self._streams.forget_after(stamp_ns)
