"""The samples of all sources other than cameras, by one interface.

    streams = SourceStreams(sources)
    streams.add("/joint_states", message)   # raises BadInput
    streams.covers(stamp_ns)                # whether waiting longer does not help
    result = pipeline.assemble(prepared, output, streams.at(stamp_ns))

Not thread-safe: the node wraps it in a lock (:mod:`vit_perception.streams.sample_inputs`), bags
read it as it is.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from vit_perception.streams.sample_history import JUMP_BACK_NS, KEEP_S
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, SampleAtImage


class History(Protocol):
    """The recent samples of one source."""

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample; None if there is none."""

    @property
    def crowded_out(self) -> int:
        """The number of samples that were forgotten because stamps hardly advance."""

    def add(self, sample: Any, needed_ns: int | None = None) -> None:
        """Insert a sample by its stamp; keep samples around ``needed_ns``."""

    def clear(self) -> None:
        """Forget every sample."""

    def covers(self, stamp_ns: int) -> bool:
        """Whether a sample at or after ``stamp_ns`` is there."""

    def lookup(self, stamp_ns: int, max_skew_ns: int) -> SampleAtImage[Any]:
        """Return the value at ``stamp_ns``."""


class Sampled(Protocol):
    """What a stream needs of its source (:class:`vit_perception.tokens.source.SampledSource`)."""

    name: str

    @property
    def topic(self) -> str | None:
        """The topic that it listens to; None if TF gives its samples."""

    @property
    def wait_s(self) -> float:
        """The longest wait for a sample at or after an image's stamp."""

    @property
    def max_skew_s(self) -> float:
        """The largest time difference at which a sample is held."""

    def history(self, keep_s: float) -> History:
        """Return a new, empty history."""

    def sample_of(self, message: Any) -> Any:
        """Return what the history takes of a message. Raises BadInput."""


class SourceStream:
    """The samples of one source. ``source`` may be replaced by another one of the same name."""

    def __init__(self, source: Sampled, keep_s: float = KEEP_S):
        self.source = source
        self.history = source.history(keep_s)

    def add(self, message: Any, needed_ns: int | None = None) -> None:
        """Take one message of the source.

        ``needed_ns`` is the oldest stamp that may still be looked up, as in
        :meth:`SampleHistory.add`.

        Raises:
            BadInput: it cannot be used.
        """
        self.history.add(self.source.sample_of(message), needed_ns)

    def lookup(self, stamp_ns: int) -> SampleAtImage[Any]:
        """Return the value at ``stamp_ns``, with the source's ``max_skew_s``."""
        max_skew_ns = round(self.source.max_skew_s * NANOSECONDS_PER_SECOND)
        return self.history.lookup(stamp_ns, max_skew_ns)

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget the samples of the time before the jump.

        A history that has also jumped, because its sample arrived first, is kept.
        """
        if self.history.covers(stamp_ns + JUMP_BACK_NS):
            self.history.clear()


class SourceStreams:
    """One stream per source. ``by_name`` and ``by_topic`` give the streams of a name or topic."""

    def __init__(self, sources: Sequence[Sampled], keep_s: float = KEEP_S):
        self.by_name = {source.name: SourceStream(source, keep_s) for source in sources}
        self.by_topic: dict[str, list[SourceStream]] = {}
        for stream in self.by_name.values():
            if stream.source.topic is not None:
                self.by_topic.setdefault(stream.source.topic, []).append(stream)

    def add(self, topic: str, message: Any) -> None:
        """Give ``message`` to every stream of ``topic``.

        A message that only has joints of other sources is no error.

        Raises:
            BadInput: a stream could not use it; all streams have got it then.
        """
        refused = None
        for stream in self.by_topic[topic]:
            try:
                stream.add(message)
            except BadInput as error:
                refused = error if error.reason != "other_joints" else refused
        if refused:
            raise refused

    def covers(self, stamp_ns: int) -> bool:
        """Whether every stream has samples at or after ``stamp_ns``."""
        return all(stream.history.covers(stamp_ns) for stream in self.by_name.values())

    def at(self, stamp_ns: int) -> dict[str, SampleAtImage[Any]]:
        """Return the value of every source at ``stamp_ns``, by name."""
        return {name: stream.lookup(stamp_ns) for name, stream in self.by_name.items()}

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what each stream had before the jump."""
        for stream in self.by_name.values():
            stream.forget_after(stamp_ns)
