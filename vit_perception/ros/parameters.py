"""The node's parameters, declared, and read into settings: at configure, and as they change while
it runs.
"""

from typing import Any

from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
    ParameterUninitializedException,
)
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name

from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    DenseSettings,
    EncoderSettings,
    EngineSettings,
    FusionSettings,
    ModelSettings,
    OutputSettings,
    PoseSettings,
    StateSettings,
    SyncSettings,
    ZeroShotSettings,
    check_name,
)
from vit_perception.ros.parameter_specs import NODE, Spec, camera_specs, pose_specs, state_specs
from vit_perception.ros.qos import check_overrides

__all__ = ["NODE", "NodeParameters", "camera_specs", "check_topic", "pose_specs", "state_specs"]


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
        self._specs: dict[str, Spec] = {}
        self._used: set[str] = set()
        self._wanted: dict[str, Any] = {}
        self._declare(NODE)

    def value(self, name: str) -> Any:
        """The value of a declared parameter; a list that was not given is empty."""
        if name in self._wanted:
            return self._wanted[name]
        try:
            return self._node.get_parameter(name).value
        except ParameterUninitializedException:
            return []

    def _texts(self, name: str) -> tuple[str, ...]:
        """The value of a list of texts; one empty text alone stands for the empty list too."""
        return tuple(given) if (given := list(self.value(name))) != [""] else ()

    def was_set(self, name: str) -> None:
        """Whatever was wrong with ``name`` has been replaced."""
        self._refused.pop(name, None)

    def _declare(self, specs: tuple[Spec, ...]) -> None:
        for spec in specs:
            self._used.add(spec.name)
            self._specs[spec.name] = spec
            if self._node.has_parameter(spec.name):
                continue
            given = self._node._parameter_overrides.get(spec.name)
            # An empty list has no type in ROS: it arrives as a parameter without a value.
            is_empty = spec.default == [] and given is not None and given.value is None
            try:
                self._node.declare_parameter(
                    spec.name, spec.type_or_default(), spec.descriptor(), ignore_override=is_empty
                )
            except (InvalidParameterTypeException, InvalidParameterValueException):
                self._node.declare_parameter(
                    spec.name, spec.type_or_default(), spec.descriptor(), ignore_override=True
                )
                # Noted after the declaration, which counts as setting it.
                self._refused[spec.name] = BadSetting(spec.name, given.value, spec.accepted())

    def read(self) -> EncoderSettings:
        """Declare what the named cameras, arms and states need, and read everything. Raises
        BadSetting.
        """
        named = {kind: self._texts(f"{kind}_names") for kind in ("camera", "pose", "state")}
        self._used = {spec.name for spec in NODE}
        for kind, names in named.items():
            for name in names:
                # Checked before it becomes part of a parameter's name.
                check_name(f"{kind}_names", name)
        for kind, specs_of in (
            ("camera", camera_specs),
            ("pose", pose_specs),
            ("state", state_specs),
        ):
            for name in named[kind]:
                self._declare(specs_of(name))
        for name, refused in self._refused.items():
            # What was wrong with a camera that is no longer named does not matter.
            if name in self._used:
                raise refused
        for name in self._used:
            if name.endswith(".topic"):
                check_topic(self._node, name, self.value(name))
        check_overrides(self._node)
        return self._settings(*named.values())

    def changed(self, wanted: dict[str, Any]) -> EncoderSettings:
        """The settings with ``wanted`` instead of what is set, for a node that runs.

        Raises BadSetting for a value that is not accepted, and for a parameter that cannot change
        now, with why.
        """
        for name, value in wanted.items():
            spec = self._specs.get(name)
            if spec is None or spec.fixed:
                why = (
                    spec.fixed
                    if spec
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

    def unknown(self) -> list[str]:
        """Parameters that were given and that nothing reads: misspelt ones, or another node's in a
        shared file.
        """
        return [
            name
            for name in self._node._parameter_overrides
            if not self._node.has_parameter(name) and not name.startswith("qos_overrides.")
        ]

    def _settings(
        self, cameras: tuple[str, ...], arms: tuple[str, ...], states: tuple[str, ...]
    ) -> EncoderSettings:
        def values(prefix: str, *keys: str) -> list[Any]:
            return [self.value(f"{prefix}{key}") for key in keys]

        texts = self._texts
        return EncoderSettings(
            cameras=tuple(
                CameraSettings(
                    n,
                    *values(f"cameras.{n}.", "topic", "transport", "head"),
                    texts(f"cameras.{n}.zero_shot_labels"),
                    texts(f"cameras.{n}.labels"),
                )
                for n in cameras
            ),
            poses=tuple(
                PoseSettings(
                    n,
                    *values(
                        f"poses.{n}.",
                        "topic",
                        "frame_id",
                        "wait_s",
                        "max_skew_s",
                        "source",
                        "base_frame",
                        "ee_frame",
                        "accept_empty_frame",
                    ),
                )
                for n in arms
            ),
            states=tuple(
                StateSettings(
                    n,
                    self.value(f"states.{n}.topic"),
                    texts(f"states.{n}.joints"),
                    texts(f"states.{n}.fields"),
                    *values(f"states.{n}.", "wait_s", "max_skew_s", "tokenizer_weights"),
                    texts(f"states.{n}.continuous"),
                )
                for n in states
            ),
            pose_policy=self.value("poses.policy"),
            state_policy=self.value("states.policy"),
            model=ModelSettings(*values("model.", "checkpoint", "block", "family", "network_size")),
            engine=EngineSettings(
                *values(
                    "engine.",
                    "backend",
                    "precision",
                    "min_cosine",
                    "threads",
                    "provider",
                    "calibration",
                    "device",
                    "file",
                    "check_memory",
                )
            ),
            fusion=FusionSettings(
                *values(
                    "",
                    "fusion.kind",
                    "fusion.weights",
                    "poses.tokenizer",
                    "poses.tokenizer_weights",
                    "states.tokenizer",
                )
            ),
            sync=SyncSettings(*values("sync.", "slop_s", "policy", "silent_after_s")),
            output=OutputSettings(
                *values("", "output_dtype", "top_k", "max_rate_hz", "min_score", "views")
            ),
            dense=DenseSettings(*values("dense.", "enabled")),
            zero_shot=ZeroShotSettings(texts("zero_shot.labels"), texts("zero_shot.templates")),
        )
