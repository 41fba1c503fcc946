"""The node's parameters, declared to ROS, and read into settings at configure and later."""

from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
    ParameterUninitializedException,
)
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.validate_full_topic_name import validate_full_topic_name

from vit_perception.config.parameter import Parameter
from vit_perception.config.reading import common_parameters, read_names, read_settings
from vit_perception.config.settings import BadSetting, EncoderSettings
from vit_perception.files.errors import hint_line, nearest
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros.qos import PREFIX, check_overrides

# What a list is declared as, by the type of its entries.
_ARRAYS = {
    str: RosParameter.Type.STRING_ARRAY,
    int: RosParameter.Type.INTEGER_ARRAY,
    float: RosParameter.Type.DOUBLE_ARRAY,
}
# The ends of the names of parameters that hold a topic.
TOPIC_PARAMETERS = (".topic", ".camera_info_topic", ".depth_topic")


def descriptor_of(parameter: Parameter) -> ParameterDescriptor:
    """Return what ``ros2 param describe`` shows."""
    fixed = parameter.fixed
    when = f"Fixed while configured: {fixed}." if fixed else "May change while active."
    descriptor = ParameterDescriptor(
        name=parameter.name, description=f"{parameter.description} {when}"
    )
    if parameter.choices:
        descriptor.additional_constraints = "one of " + ", ".join(parameter.choices)
    low, high = parameter.low, parameter.high
    if parameter.kind is tuple:
        # ROS has ranges for single numbers alone.
        if parameter.count:
            descriptor.additional_constraints = parameter.accepted()
    elif low is not None and parameter.kind is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif low is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def declared_default(parameter: Parameter) -> Any:
    """Return what to declare. An empty list has no type in rclpy, so its type is declared."""
    if parameter.kind is not tuple:
        return parameter.default
    return list(parameter.default) or _ARRAYS[parameter.item]


def check_topic(node: Node, parameter: str, topic: str) -> None:
    """Raise BadSetting where ``topic`` is no valid name; an empty one is the settings' business."""
    try:
        if topic:
            validate_full_topic_name(
                expand_topic_name(topic, node.get_name(), node.get_namespace())
            )
    except (InvalidTopicNameException, ValueError) as error:
        raise BadSetting(
            parameter, topic, f"the name of a topic ({str(error).splitlines()[0]})"
        ) from error


class NodeParameters:
    """Declares the node's parameters and reads them into settings.

    A value of a wrong type or out of bounds cannot be declared. It is remembered, so that configure
    fails with it, until the parameter is set to something else; the node itself keeps running.
    """

    def __init__(self, node: Node):
        self._node = node
        self._refused: dict[str, BadSetting] = {}
        self._declared: dict[str, Parameter] = {}
        self._used: set[str] = set()
        self._wanted: dict[str, Any] = {}
        self._declare(common_parameters())

    def value(self, name: str) -> Any:
        """The value of a declared parameter; a list that was not given is empty."""
        if name in self._wanted:
            return self._wanted[name]
        try:
            return self._node.get_parameter(name).value
        except ParameterUninitializedException:
            return []

    def _value_of(self, parameter: Parameter) -> Any:
        """Return the value as the settings hold it: a list as a tuple, [''] as (), and a topic by
        its full name, which a reader of the log can look for.
        """
        value = self.value(parameter.name)
        if value and parameter.name.endswith(TOPIC_PARAMETERS):
            return expand_topic_name(value, self._node.get_name(), self._node.get_namespace())
        if parameter.kind is not tuple:
            return value
        return tuple(value) if list(value) != [""] else ()

    def was_set(self, name: str) -> None:
        """Whatever was wrong with ``name`` has been replaced."""
        self._refused.pop(name, None)

    def _declare(self, parameters: Iterable[Parameter]) -> None:
        for parameter in parameters:
            name = parameter.name
            self._used.add(name)
            self._declared[name] = parameter
            if self._node.has_parameter(name):
                continue
            default, descriptor = declared_default(parameter), descriptor_of(parameter)
            given = self._node._parameter_overrides.get(name)
            # An empty list has no type in ROS: it arrives as a parameter without a value, and from
            # tools that cannot write one as [''].
            is_empty = parameter.default == () and given is not None and given.value in (None, [""])
            try:
                self._node.declare_parameter(name, default, descriptor, ignore_override=is_empty)
            except (InvalidParameterTypeException, InvalidParameterValueException):
                self._node.declare_parameter(name, default, descriptor, ignore_override=True)
                self._give_empty_list(parameter)
                # Noted after the declaration, which counts as setting it.
                self._refused[name] = BadSetting(name, given.value, parameter.accepted())
            else:
                self._give_empty_list(parameter)

    def _give_empty_list(self, parameter: Parameter) -> None:
        """Set a list that was declared by its type alone to the empty one.

        While one parameter has no value, the service get_parameters answers for none of them, and
        `ros2 param dump` writes a file without parameters.
        """
        if parameter.kind is tuple and not parameter.default:
            try:
                self._node.get_parameter(parameter.name)
            except ParameterUninitializedException:
                empty = RosParameter(parameter.name, _ARRAYS[parameter.item], [])
                self._node.set_parameters([empty])

    def read(self) -> EncoderSettings:
        """Declare the parameters of all named sources, and read all parameters.

        Raises:
            BadSetting: a value is not accepted.
        """
        self._used = {parameter.name for parameter in common_parameters()}
        for group, names in read_names(self._value_of).items():
            for name in names:
                self._declare(parameter for _, parameter in group.parameters(name))
        for name, refused in self._refused.items():
            # What was wrong with a camera that is no longer named does not matter.
            if name in self._used:
                raise refused
        for name in self._used:
            if name.endswith(TOPIC_PARAMETERS):
                check_topic(self._node, name, self.value(name))
        check_overrides(self._node)
        return read_settings(self._value_of)

    def changed(self, wanted: dict[str, Any]) -> EncoderSettings:
        """The settings with ``wanted`` instead of what is set, for a node that runs.

        Raises BadSetting for a value that is not accepted, and for a parameter that cannot change
        now, with why.
        """
        for name, value in wanted.items():
            parameter = self._declared.get(name)
            if parameter is None or parameter.fixed:
                why = (
                    parameter.fixed
                    if parameter
                    else "it belongs to no camera, arm or state that is configured"
                )
                raise BadSetting(
                    name,
                    value,
                    f"a change after ros2 lifecycle set .. deactivate and cleanup: {why}",
                )
        self._wanted = wanted
        try:
            return self.read()
        finally:
            self._wanted = {}

    def answer(
        self,
        parameters: list[RosParameter],
        pipeline: Pipeline | None,
        change: Callable[[EncoderSettings], None],
    ) -> SetParametersResult:
        """Accept or refuse ``parameters``, and hand new settings to ``change``.

        Before configure, where there is no ``pipeline``, anything may be set. Then policies and
        outputs may, and the rest is refused with why.
        """
        own = {
            p.name: p.value for p in parameters if not p.name.startswith((PREFIX, "use_sim_time"))
        }
        if own and pipeline is not None:
            try:
                settings = self.changed(own)
                pipeline.parts.check_labels(settings)
            except BadSetting as error:
                return SetParametersResult(successful=False, reason=str(error))
            change(settings)
        for name in own:
            self.was_set(name)
        return SetParametersResult(successful=True)

    def warn_of_unknown(self) -> None:
        """Log parameters that were given and that nothing reads: misspelt ones, or another node's
        in a shared file.
        """
        for name in self._node._parameter_overrides:
            if not self._node.has_parameter(name) and not name.startswith(PREFIX):
                self._node.get_logger().warning(
                    f"parameter '{name}' is not one of this node's and does nothing"
                    + hint_line(nearest(name, sorted(self._used)))
                )
