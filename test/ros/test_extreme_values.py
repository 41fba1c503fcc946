"""Every numeric parameter at the ends of its type: refused by name, or a number that is finite and
within its bounds.

Both readers: the node's, and that of parameter files.
"""

import math
import sys

import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter

from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.config.reading import all_parameters
from vit_perception.config.settings import LOWEST_RATE_HZ, BadSetting
from vit_perception.ros.parameters import NodeParameters

BASE = {
    "camera_names": ["cam"],
    "pose_names": ["arm"],
    "poses.arm.frame_id": "base",
    "state_names": ["body"],
    "states.body.joints": ["elbow"],
    "wrench_names": ["hand"],
    "wrenches.hand.frame_id": "tool",
}
NAMES = {"cameras": "cam", "poses": "arm", "states": "body", "wrenches": "hand"}
FLOATS = (1e-300, 5e-324, -1.0, -5e-324, math.nan, math.inf, -math.inf, 1e300, 2.0**63)
INTEGERS = (-1, 2**31, 2**63 - 1, -(2**63), 0)
SPECS = {spec.name: spec for spec in all_parameters(NAMES) if type(spec.default) in (int, float)}


def value_in(settings, name: str):
    """What ``settings`` hold for the parameter ``name``."""
    *groups, last = name.split(".")
    held = settings
    if groups and groups[0] in NAMES and len(groups) == 2:
        (held,) = settings.group(groups[0])
    elif groups:
        (group,) = groups
        held = getattr(settings, group)
    if name == "log_status_s":
        return settings.log.status_s
    return getattr(held if groups else settings.output, last)


def by_the_node(name, value):
    node = rclpy.create_node(
        "extreme",
        parameter_overrides=[Parameter(k, value=v) for k, v in (BASE | {name: value}).items()],
    )
    try:
        return NodeParameters(node).read()
    finally:
        node.destroy_node()


def by_the_tools(name, value, path):
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": BASE | {name: value}}}))
    return settings_of_parameters(path)


@pytest.mark.parametrize("name", SPECS)
def test_an_extreme_value_is_refused_by_name_or_harmless(name, tmp_path):
    spec, refused = SPECS[name], 0
    assert spec.low is not None and math.isfinite(spec.low) and math.isfinite(spec.high)
    for value in FLOATS if isinstance(spec.default, float) else INTEGERS:
        said = []
        for read in (by_the_node, lambda n, v: by_the_tools(n, v, tmp_path / "p.yaml")):
            try:
                held = value_in(read(name, value), name)
            except BadSetting as error:
                assert f"'{name}' is " in str(error) and "accepted: " in str(error), error
                said.append("refused")
            else:
                assert math.isfinite(held) and spec.low <= held <= spec.high, f"{name} holds {held}"
                assert name != "max_rate_hz" or held == 0 or held >= LOWEST_RATE_HZ
                said.append(held)
        # ROS reads a number in a file that float64 holds only roughly (below 2e-308) as a text, and
        # so do the tools.
        rough = 0 < abs(value) < sys.float_info.min
        assert said[0] == said[1] or rough, (
            f"{name} {value}: the node {said[0]}, the tools {said[1]}"
        )
        refused += said[0] == "refused"
    assert refused >= 2
