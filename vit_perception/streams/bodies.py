"""Everything that says how the robot stands: the poses of its arms and the states of its joints, by
one interface.

    body = BodyStreams(settings.poses, settings.states)
    body.add("/joint_states", message)     # raises BadInput
    body.covers(stamp_ns)                  # whether waiting longer brings nothing better
    result = pipeline.assemble(prepared, output, *body.at(stamp_ns))

Not thread-safe: the node wraps it in a lock (:mod:`vit_perception.streams.pose_wait`), bags read it
as it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from vit_perception.config.settings import PoseSettings, StateSettings
from vit_perception.streams.joint_history import StateHistory, joint_samples_of
from vit_perception.streams.pose_history import PoseHistory, pose_of
from vit_perception.streams.sample_history import JUMP_BACK_NS, KEEP_S
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, PoseAtImage, StateAtImage


class BodyAtImage(NamedTuple):
    """Poses by arm and joint states by name, at one image's stamp."""

    poses: dict[str, PoseAtImage]
    states: dict[str, StateAtImage]


class Stream:
    """One arm's poses, or one mechanism's joint states. ``settings`` may be replaced by others of
    the same name.
    """

    def __init__(self, settings: PoseSettings | StateSettings, keep_s: float = KEEP_S):
        self.settings = settings
        self.is_pose = isinstance(settings, PoseSettings)
        self._history = PoseHistory(keep_s) if self.is_pose else StateHistory(settings, keep_s)
        self.clear, self.covers = self._history.clear, self._history.covers

    def add(self, message: Any, needed_ns: int | None = None) -> None:
        """Take a PoseStamped or a JointState. Raises BadInput where it cannot be used.

        ``needed_ns``: the oldest stamp that may still be looked up, as :meth:`SampleHistory.add`
        has it.
        """
        if self.is_pose:
            sample = pose_of(
                message, self.settings.expected_frame_id, self.settings.accept_empty_frame
            )
        else:
            sample = joint_samples_of(message, self.settings)
        self._history.add(sample, needed_ns)

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample; None where there is none."""
        return self._history.newest_ns

    @property
    def crowded_out(self) -> int:
        """How many samples were forgotten because too many came: stamps that hardly advance."""
        return self._history.crowded_out

    def lookup(self, stamp_ns: int) -> PoseAtImage | StateAtImage:
        """The pose or state at ``stamp_ns``, with the settings' ``max_skew_s``."""
        return self._history.lookup(
            stamp_ns, round(self.settings.max_skew_s * NANOSECONDS_PER_SECOND)
        )

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what was before the jump.

        A history that has jumped too, because its sample came first, is kept.
        """
        if self.covers(stamp_ns + JUMP_BACK_NS):
            self.clear()


class BodyStreams:
    """One stream an arm and a state, by name; ``topics`` are the streams that listen to each
    topic.
    """

    def __init__(
        self,
        poses: Sequence[PoseSettings],
        states: Sequence[StateSettings] = (),
        keep_s: float = KEEP_S,
    ):
        self.streams = {settings.name: Stream(settings, keep_s) for settings in (*poses, *states)}
        self.topics: dict[str, list[Stream]] = {}
        for stream in self.streams.values():
            # TF is no topic of one arm's: whoever has a TF buffer adds its poses to the stream.
            if not (stream.is_pose and stream.settings.source == "tf"):
                self.topics.setdefault(stream.settings.topic, []).append(stream)

    def add(self, topic: str, message: Any) -> None:
        """Give ``message`` to every stream of ``topic``.

        Raises BadInput, after all have seen it, where a stream could not use it; another one's
        joints are no fault.
        """
        refused = None
        for stream in self.topics[topic]:
            try:
                stream.add(message)
            except BadInput as error:
                refused = error if error.reason != "other_joints" else refused
        if refused:
            raise refused

    def covers(self, stamp_ns: int) -> bool:
        """Whether every stream has samples at or after ``stamp_ns``."""
        return all(stream.covers(stamp_ns) for stream in self.streams.values())

    def at(self, stamp_ns: int) -> BodyAtImage:
        """Every pose and state at ``stamp_ns``."""
        found = {name: stream.lookup(stamp_ns) for name, stream in self.streams.items()}
        return BodyAtImage(
            {n: f for n, f in found.items() if self.streams[n].is_pose},
            {n: f for n, f in found.items() if not self.streams[n].is_pose},
        )

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what every stream had before the jump."""
        for stream in self.streams.values():
            stream.forget_after(stamp_ns)
