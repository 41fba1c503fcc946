"""Forces and torques as token sources: the example to copy for a new kind of source.

Parameters: ``wrench_names``, and for each name ``wrenches.<name>.topic``, ``.frame_id``,
``.wait_s`` and ``.max_skew_s``. A wrench that is missing is masked.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

import numpy as np

from vit_perception.config.checks import check_name
from vit_perception.config.input_qos import check_input_qos, deadline_param, liveliness_param
from vit_perception.config.named_groups import NamedGroup, register_group
from vit_perception.config.parameter import TOKENS, TOPICS, Section, param, require
from vit_perception.tokens.components import Component
from vit_perception.tokens.source import SampledSource, register
from vit_perception.wire.records import BadInput, Sample, expected_frame
from vit_perception.wire.stamps import stamp_ns_of

MAX_MAGNITUDE = 1e6  # N or N·m: beyond it the unit or the driver is wrong
# The fourier token is unambiguous within 8: forces are given to it in units of 10 N.
FORCE_UNIT_N = 10.0


@dataclass(frozen=True)
class WrenchSettings(Section):
    """One force/torque sensor."""

    PREFIX: ClassVar[str] = "wrenches.{}."

    # The name: a segment of the sensor's output topic.
    name: str
    topic: str = param(MISSING, "WrenchStamped topic of the sensor.", fixed=TOPICS)
    frame_id: str = param(MISSING, "Frame that the header of each wrench must name.", fixed=TOKENS)
    wait_s: float = param(
        0.02,
        "Longest wait for a wrench at or after the image's stamp, in s.",
        unit="s",
        bounds=(0.0, 1.0),
    )
    max_skew_s: float = param(
        0.05,
        "Maximum time difference at which a single wrench is used, in s.",
        unit="s",
        bounds=(0.0, 2.0),
    )
    deadline_s: float = deadline_param()
    liveliness_s: float = liveliness_param()

    def __post_init__(self) -> None:
        check_name("wrench_names", self.name)
        require(f"{self.prefix}topic", self.topic, "the name of a WrenchStamped topic")
        require(f"{self.prefix}frame_id", self.frame_id, "the frame of the wrenches")
        self.check_parameters()
        check_input_qos(self)


register_group(
    NamedGroup(
        prefix="wrenches",
        names_parameter="wrench_names",
        settings=WrenchSettings,
        default_topic="{}/wrench",
        what="force/torque sensors",
    )
)


@register
class WrenchSource(SampledSource):
    """One force/torque sensor: force in N, then torque in N·m, (6,), interpolated linearly."""

    group = "wrenches"
    label = "wrench"
    kind = "wrench"
    sample_label = "wrench"
    type = "geometry_msgs/msg/WrenchStamped"
    fields = (
        *(f"wrench.force.{axis}" for axis in "xyz"),
        *(f"wrench.torque.{axis}" for axis in "xyz"),
    )

    def sample_of(self, message: Any) -> Sample:
        """Return the wrench of a WrenchStamped.

        Raises:
            BadInput: ``stamp``, ``frame``, ``nan`` or ``magnitude``.
        """
        stamp_ns = stamp_ns_of(message.header, "measurement")
        frame_id = expected_frame(message.header, self.settings.frame_id)
        force = message.wrench.force
        torque = message.wrench.torque
        numbers = [float(getattr(v, axis)) for v in (force, torque) for axis in "xyz"]
        if not all(map(math.isfinite, numbers)):
            raise BadInput("nan", f"force and torque are {numbers}; accepted: finite numbers")
        if max(map(abs, numbers)) > MAX_MAGNITUDE:
            raise BadInput(
                "magnitude",
                f"force and torque are {numbers}; accepted: up to {MAX_MAGNITUDE:g} N or N·m",
            )
        return Sample(np.array(numbers), stamp_ns, frame_id)

    def components(self) -> Mapping[str, Component]:
        """Return force and torque."""
        return {
            "force": Component(("fx", "fy", "fz"), "N", lambda wrench: wrench.numbers[:3]),
            "torque": Component(("tx", "ty", "tz"), "N·m", lambda wrench: wrench.numbers[3:]),
        }

    def token_numbers(self, value: Sample) -> np.ndarray:
        """Return force in units of 10 N and torque in N·m, (6,)."""
        numbers: np.ndarray = value.numbers / np.repeat([FORCE_UNIT_N, 1.0], 3)
        return numbers
