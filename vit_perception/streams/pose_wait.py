"""Poses of the arms and joint states: what was refused, and what they are at an image's stamp,
waiting for it.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.config.settings import EncoderSettings, PoseSettings, StateSettings
from vit_perception.streams.bodies import BodyAtImage, BodyStreams
from vit_perception.wire.records import BadInput, PoseAtImage, StateAtImage

# A stream that sends nothing usable for as long is not waited for, until it does again.
SILENT_S = 1.0


@dataclass
class PoseAccount:
    """The books of one arm or joint state: messages received and refused, and how it was had at
    images.

    ``trouble`` is what TF says where it has no pose; ``lacking`` the joints that the latest image
    missed. Of that image too: ``nearest_ns`` is how far behind its stamp the nearest sample was
    where that was too far, ``ahead_ns`` how far the newest one was, and ``silent`` says that
    nothing usable had come for a while. ``crowded_out`` counts samples that were forgotten because
    too many came.
    """

    received: int = 0
    refused: Counter = field(default_factory=Counter)
    statuses: Counter = field(default_factory=Counter)
    latest: str = ""
    skew_ms: deque = field(default_factory=lambda: deque(maxlen=500))
    arrivals_ns: deque = field(default_factory=lambda: deque(maxlen=5000))  # monotonic
    lacking: tuple[str, ...] = ()
    trouble: str = ""
    nearest_ns: int | None = None
    ahead_ns: int | None = None
    silent: bool = False
    crowded_out: int = 0


class PoseInputs:
    """Histories of all arms and joint states behind one condition, which ``add`` notifies and
    ``body_at`` waits on.
    """

    def __init__(
        self,
        arms: Sequence[PoseSettings],
        changed: threading.Condition,
        states: Sequence[StateSettings] = (),
    ):
        self._changed = changed
        self._body = BodyStreams(arms, states)
        self.accounts = {name: PoseAccount() for name in self._body.streams}
        self._begun_ns = time.monotonic_ns()
        self._needed_ns: Callable[[], int | None] = lambda: None

    def keep_for(self, needed_ns: Callable[[], int | None]) -> None:
        """Keep what is around ``needed_ns()``: the oldest stamp of an image that waits or is being
        encoded.

        It is called under the lock. Without it, only the last seconds are kept, and an encoder run
        that takes longer finds none of them.
        """
        with self._changed:
            self._needed_ns = needed_ns

    def configure(self, settings: EncoderSettings) -> None:
        """Wait, and hold samples, as ``settings`` say from the next look-up on. Arms and states
        stay the same.
        """
        with self._changed:
            for each in (*settings.poses, *settings.states):
                self._body.streams[each.name].settings = each

    def add(self, source: PoseSettings | StateSettings, message: Any) -> None:
        """Take one PoseStamped or JointState. Raises BadInput, after counting it, when it cannot be
        used.
        """
        with self._changed:
            account = self.accounts[source.name]
            account.received += 1
            try:
                self._body.streams[source.name].add(message, self._needed_ns())
            except BadInput as error:
                account.refused[error.reason] += 1
                raise
            account.arrivals_ns.append(time.monotonic_ns())
            account.crowded_out = self._body.streams[source.name].crowded_out
            self._changed.notify_all()

    def poses_at(self, stamp_ns: int) -> dict[str, PoseAtImage]:
        """The pose of each arm at ``stamp_ns``, as :meth:`body_at`."""
        return self.body_at(stamp_ns).poses

    def body_at(self, stamp_ns: int) -> BodyAtImage:
        """Each pose and state at ``stamp_ns``, waiting at most its ``wait_s`` for a sample at or
        after it.

        Called after inference, so usually the sample is there and nothing waits. A silent stream is
        not waited for.
        """
        started = time.monotonic()
        with self._changed:
            for name, stream in self._body.streams.items():
                if self._is_silent(name):
                    continue
                self._changed.wait_for(
                    lambda s=stream: s.covers(stamp_ns),
                    timeout=max(0.0, started + stream.settings.wait_s - time.monotonic()),
                )
            body = self._body.at(stamp_ns)
            for name, found in (body.poses | body.states).items():
                self._note(name, found, stamp_ns)
            return body

    def _is_silent(self, name: str) -> bool:
        """Whether no usable sample came lately. Samples of a stream that can be interpolated are
        two skews apart.
        """
        arrivals_ns = self.accounts[name].arrivals_ns
        heard_ns = arrivals_ns[-1] if arrivals_ns else self._begun_ns
        lately_s = max(SILENT_S, 2 * self._body.streams[name].settings.max_skew_s)
        return time.monotonic_ns() - heard_ns > lately_s * 1e9

    def _note(self, name: str, found: PoseAtImage | StateAtImage, stamp_ns: int) -> None:
        account, newest_ns = self.accounts[name], self._body.streams[name].newest_ns
        account.statuses[found.status] += 1
        account.latest = found.status
        account.lacking = getattr(found, "lacking", ())
        account.nearest_ns, account.silent = found.nearest_ns, self._is_silent(name)
        account.ahead_ns = None if newest_ns is None else newest_ns - stamp_ns
        if found.skew_ns is not None:
            account.skew_ms.append(found.skew_ns / 1e6)

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what was before, but in histories that have
        jumped too.
        """
        with self._changed:
            self._body.forget_after(stamp_ns)
