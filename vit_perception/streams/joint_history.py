"""Recent joint states of one mechanism, and its state at an image's stamp. numpy only.

Each joint has a history of its own: an arm's and a gripper's driver often share one topic, each
with its joints, its order and its rate.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from vit_perception.config.settings import StateSettings
from vit_perception.files.errors import shown
from vit_perception.streams.sample_history import KEEP_S, Neighbours, SampleHistory
from vit_perception.wire.records import BadInput, Sample, SampleAtImage, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

_BEST_FIRST = ("interpolated", "held", "missing")
# A step of about a turn between two samples is no motion: the joint's encoder has wrapped from pi
# to -pi or back.
TURN_RAD = 2 * math.pi
WRAP_WITHIN_RAD = math.pi / 2
MOST_JOINTS = 4096  # in one message; no robot has as many
MAX_MAGNITUDE = 1e6  # rad, m, rad/s or m/s: beyond it the unit or the driver is wrong


class JointSamples(NamedTuple):
    """The wanted joints of one message."""

    stamp_ns: int  # of its header
    frame_id: str  # of its header
    values: dict[str, tuple[float, ...]]  # by joint, in the order of the settings' fields


def joint_samples_of(message: Any, state: StateSettings) -> JointSamples:
    """Return the joints of ``state`` in a sensor_msgs/JointState, looked up by name.

    Raises:
        BadInput: ``stamp``, ``frame``, ``other_joints`` (none of the joints is in it, which is
            normal on a topic that drivers share), ``joints`` (one is named twice, or there are
            thousands), ``length`` (fewer or more values than names), ``nan`` or ``magnitude``.
    """
    stamp_ns = stamp_ns_of(message.header, "measurement")
    check_frame_id(message.header.frame_id)
    if len(message.name) > MOST_JOINTS:
        raise BadInput(
            "joints", f"name holds {len(message.name)} names; accepted: at most {MOST_JOINTS}"
        )
    names = list(message.name)
    places = {name: index for index, name in enumerate(names) if name in state.joints}
    if not places:
        raise BadInput(
            "other_joints",
            f"name is {shown(names)}; accepted: one or more of {', '.join(state.joints)}",
        )
    twice = sorted(name for name in places if names.count(name) > 1)
    if twice:
        raise BadInput(
            "joints", f"name holds {', '.join(twice)} more than once; accepted: each joint once"
        )
    columns = []
    for field in state.fields:
        column = getattr(message, field)
        if len(column) != len(names):
            raise BadInput(
                "length",
                f"{field} has {len(column)} values for {len(names)} names; accepted: one each",
            )
        columns.append(column)
    values = {
        name: tuple(float(column[index]) for column in columns) for name, index in places.items()
    }
    for name, numbers in values.items():
        if not all(map(math.isfinite, numbers)):
            raise BadInput(
                "nan",
                f"{' and '.join(state.fields)} of {name}: {numbers}; accepted: finite numbers",
            )
        if max(map(abs, numbers)) > MAX_MAGNITUDE:
            raise BadInput(
                "magnitude",
                f"{' and '.join(state.fields)} of {name}: {numbers}; "
                f"accepted: up to {MAX_MAGNITUDE:g}",
            )
    return JointSamples(stamp_ns, message.header.frame_id, values)


class StateHistory:
    """The last ``keep_s`` seconds of each joint of ``state``.

    Not thread-safe, as :class:`SampleHistory`.
    """

    def __init__(self, state: StateSettings, keep_s: float = KEEP_S):
        self._joints: dict[str, SampleHistory[tuple[float, ...]]] = {
            j: SampleHistory(keep_s) for j in state.joints
        }
        self._position = state.fields.index("position") if "position" in state.fields else None
        self._continuous = frozenset(state.continuous if self._position is not None else ())
        self._endless = np.array([joint in self._continuous for joint in state.joints])
        self._frame_id = ""

    def add(self, samples: JointSamples, needed_ns: int | None = None) -> None:
        """Insert each joint's values by their stamp, as :meth:`SampleHistory.add` says."""
        self._frame_id = samples.frame_id
        for name, values in samples.values.items():
            self._joints[name].add(samples.stamp_ns, values, needed_ns)

    def clear(self) -> None:
        """Forget every sample."""
        for history in self._joints.values():
            history.clear()

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample of any joint; None if there is none."""
        return max(
            (h.newest_ns for h in self._joints.values() if h.newest_ns is not None), default=None
        )

    @property
    def crowded_out(self) -> int:
        """The number of joints' samples that were forgotten because there were too many."""
        return sum(history.crowded_out for history in self._joints.values())

    def covers(self, stamp_ns: int) -> bool:
        """Whether every joint has a sample at or after ``stamp_ns``."""
        return all(history.covers(stamp_ns) for history in self._joints.values())

    def lookup(self, stamp_ns: int, max_skew_ns: int) -> SampleAtImage[Sample]:
        """Return the state at ``stamp_ns``, each joint linear between the two samples around it.

        A joint is held or missing as :meth:`SampleHistory.around` says; if one is missing, the
        state is. It is also held if its position steps by about a turn, from pi to -pi or back. A
        continuous joint takes the shorter way instead; its position is in (-pi, pi].
        """
        found = {
            name: history.around(stamp_ns, max_skew_ns) for name, history in self._joints.items()
        }
        found = {
            name: around if name in self._continuous else self._held_if_it_wraps(around)
            for name, around in found.items()
        }
        lacking = tuple(name for name, around in found.items() if around.earlier is None)
        if lacking:
            return SampleAtImage(
                value=None,
                status="missing",
                skew_ns=None,
                nearest_ns=found[lacking[0]].nearest_ns,
                lacking=lacking,
            )
        earlier = np.array([around.earlier for around in found.values()])  # (J, F)
        later = np.array([around.later for around in found.values()])
        fraction = np.array([[around.fraction] for around in found.values()])
        step = later - earlier
        if self._continuous:
            angles = self._endless, self._position
            step[angles] = _half_turn(step[angles])
        numbers = earlier + fraction * step
        if self._continuous:
            numbers[angles] = _half_turn(numbers[angles])
        numbers = numbers.T.reshape(-1)
        return SampleAtImage(
            Sample(numbers, stamp_ns, self._frame_id),
            max((around.status for around in found.values()), key=_BEST_FIRST.index),
            max(around.skew_ns for around in found.values()),
        )

    def _held_if_it_wraps(self, around: Neighbours) -> Neighbours:
        if self._position is None or around.earlier is None:
            return around
        step_rad = abs(around.later[self._position] - around.earlier[self._position])
        if abs(step_rad - TURN_RAD) > WRAP_WITHIN_RAD:
            return around
        nearest = around.earlier if around.fraction < 0.5 else around.later
        return around._replace(status="held", earlier=nearest, later=nearest, fraction=0.0)


def _half_turn(angles_rad: np.ndarray) -> np.ndarray:
    """Return the same angles in (-pi, pi]."""
    wrapped = angles_rad - TURN_RAD * np.ceil((angles_rad - math.pi) / TURN_RAD)
    # Rounding may give -pi, which is not in the range.
    return np.where(wrapped <= -math.pi, math.pi, wrapped)
