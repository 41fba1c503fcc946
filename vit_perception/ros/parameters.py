"""The node's parameters: declared with type, default, unit, bounds and description, read into settings."""

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (InvalidParameterTypeException, InvalidParameterValueException,
                              InvalidTopicNameException, ParameterUninitializedException)
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_full_topic_name import validate_full_topic_name

from vit_perception.settings import (BACKENDS, FUSIONS, OUTPUT_DTYPES, POSE_POLICIES, PRECISIONS, PROVIDERS,
                                     SYNC_POLICIES, TOKENIZERS, TRANSPORTS, BadSetting, CameraSettings, DenseSettings,
                                     EncoderSettings, EngineSettings, FusionSettings, ModelSettings, OutputSettings,
                                     PoseSettings, SyncSettings, ZeroShotSettings, check_name)


@dataclass(frozen=True)
class Spec:
    """One parameter: name, default (which gives the type), description with unit, and bounds or choices."""

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """What ``ros2 param describe`` shows."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description)
        if self.choices:
            descriptor.additional_constraints = "one of " + ", ".join(self.choices)
        if self.low is not None and isinstance(self.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
        elif self.low is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
        return descriptor

    def type_or_default(self) -> Any:
        """What to declare: an empty list has no type of its own in rclpy, so it is declared by its type."""
        return Parameter.Type.STRING_ARRAY if self.default == [] else self.default

    def accepted(self) -> str:
        """What a value must be, for an error message."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "list of strings" if isinstance(self.default, list) else type(self.default).__name__
        kind = "float (15.0, not 15)" if kind == "float" else kind
        return kind if self.low is None else f"{kind} from {self.low:g} to {self.high:g}"


NODE = (
    Spec("autostart", False, "Configure and activate as soon as the node spins."),
    Spec("camera_names", [], "The cameras, each a segment of the output topics; leave the key out for none."),
    Spec("pose_names", [], "The arms, each a segment of the output topics; leave the key out for none."),
    Spec("model.checkpoint", "demo", "Folder, file, hf://owner/name, or demo (DINOv2 ViT-S/14)."),
    Spec("model.family", "auto", "Family of checkpoints that the file is read as; auto recognises it."),
    Spec("model.block", -1, "Whose block's tokens go out, from 0; -1 is the last, -2 the one before.", -100, 100),
    Spec("model.network_size", "", "Height and width in px that images are brought to, e.g. 518x686; '' is the "
         "checkpoint's own."),
    Spec("dense.enabled", False, "Publish the depth or segmentation of a checkpoint with such a head."),
    Spec("zero_shot.labels", [], "Names of classes, for CLIP and SigLIP checkpoints; leave the key out for none."),
    Spec("zero_shot.templates", ["a photo of a {}."], "Texts that each label stands in, at {}; averaged."),
    Spec("engine.backend", "auto", "Runtime; a named one that cannot open is an error.", choices=BACKENDS),
    Spec("engine.precision", "auto", "Precision; auto takes the fastest the device has.", choices=PRECISIONS),
    Spec("engine.min_cosine", 0.0, "Lowest cosine to the float32 reference; 0 takes the precision's default.", 0.0,
         1.0),
    Spec("engine.threads", 0, "CPU threads of the engine; 0 is all cores.", 0, 256),
    Spec("engine.provider", "cpu", "Where onnxruntime runs; other backends have no such choice.", choices=PROVIDERS),
    Spec("engine.calibration", "", "rosbag2 folder or folder of pictures that precision int8 is calibrated on."),
    Spec("poses.policy", "mask", "What a missing pose does to the frame: mask its token, or require it (drop).",
         choices=POSE_POLICIES),
    Spec("poses.tokenizer", "fourier", "How a pose becomes a token; fourier needs no weights.", choices=TOKENIZERS),
    Spec("poses.tokenizer_weights", "", "safetensors file of the linear or mlp tokenizer."),
    Spec("fusion.kind", "concat", "How ~/embedding is made.", choices=FUSIONS),
    Spec("fusion.weights", "", "safetensors file of the cross_attention fusion."),
    Spec("sync.slop_s", 0.02, "Images of several cameras are one group within this, in s.", 0.0, 1.0),
    Spec("sync.policy", "wait", "A silent camera is waited for, or masked.", choices=SYNC_POLICIES),
    Spec("sync.silent_after_s", 0.5, "A camera that sends nothing for this long is silent, in s.", 0.01, 60.0),
    Spec("output_dtype", "float32", "dtype of the tensors on the wire.", choices=OUTPUT_DTYPES),
    Spec("top_k", 5, "Classes in a classification.", 1, 1000),
    Spec("max_rate_hz", 0.0, "Most encoder runs a second, in Hz; 0 is no bound.", 0.0, 1000.0),
)


def camera_specs(name: str) -> tuple[Spec, ...]:
    """Parameters of the camera ``name``."""
    return (
        Spec(f"cameras.{name}.topic", f"{name}/image", "Image topic of the camera."),
        Spec(f"cameras.{name}.transport", "raw", "Image (raw) or CompressedImage.", choices=TRANSPORTS),
        Spec(f"cameras.{name}.head", "", "Folder of a classification head made by `vit-perception fit`."),
        Spec(f"cameras.{name}.zero_shot_labels", [], "This camera's labels in place of zero_shot.labels."),
    )


def pose_specs(name: str) -> tuple[Spec, ...]:
    """Parameters of the arm ``name``."""
    return (
        Spec(f"poses.{name}.topic", f"{name}/pose", "PoseStamped topic of the end effector."),
        Spec(f"poses.{name}.frame_id", "", "Frame that its header must name; another one is bad input."),
        Spec(f"poses.{name}.wait_s", 0.02, "Longest wait for a sample at or after the image stamp, in s.", 0.0, 1.0),
        Spec(f"poses.{name}.max_skew_s", 0.05, "Farthest sample that may be held, in s.", 0.0, 2.0),
    )


def check_topic(node: Node, parameter: str, topic: str) -> None:
    """Raise BadSetting where ``topic`` is no valid name; an empty one is the settings' business."""
    try:
        if topic:
            validate_full_topic_name(expand_topic_name(topic, node.get_name(), node.get_namespace()))
    except (InvalidTopicNameException, ValueError) as error:
        raise BadSetting(parameter, topic, f"the name of a topic ({str(error).splitlines()[0]})") from error


class NodeParameters:
    """Declares the node's parameters and reads them into settings.

    A value of a wrong type or out of bounds cannot be declared. It is remembered, so that configure fails with
    it, until the parameter is set to something else; the node itself keeps running.
    """

    def __init__(self, node: Node):
        self._node = node
        self._refused: dict[str, BadSetting] = {}
        self._used: set[str] = set()
        self._declare(NODE)

    def value(self, name: str) -> Any:
        """The value of a declared parameter; a list that was not given is empty."""
        try:
            return self._node.get_parameter(name).value
        except ParameterUninitializedException:
            return []

    def was_set(self, name: str) -> None:
        """Whatever was wrong with ``name`` has been replaced."""
        self._refused.pop(name, None)

    def _declare(self, specs: tuple[Spec, ...]) -> None:
        for spec in specs:
            self._used.add(spec.name)
            if self._node.has_parameter(spec.name):
                continue
            try:
                self._node.declare_parameter(spec.name, spec.type_or_default(), spec.descriptor())
            except (InvalidParameterTypeException, InvalidParameterValueException):
                given = self._node._parameter_overrides[spec.name].value
                self._node.declare_parameter(spec.name, spec.type_or_default(), spec.descriptor(), ignore_override=True)
                # Noted after the declaration, which counts as setting it.
                self._refused[spec.name] = BadSetting(spec.name, given, spec.accepted())

    def read(self) -> EncoderSettings:
        """Declare what the named cameras and arms need, and read everything. Raises BadSetting."""
        cameras, arms = (tuple(self.value(f"{kind}_names")) for kind in ("camera", "pose"))
        self._used = {spec.name for spec in NODE}
        for parameter, names in (("camera_names", cameras), ("pose_names", arms)):
            for name in names:
                # Checked before it becomes part of a parameter's name.
                check_name(parameter, name)
        for name in cameras:
            self._declare(camera_specs(name))
        for name in arms:
            self._declare(pose_specs(name))
        for name, refused in self._refused.items():
            # What was wrong with a camera that is no longer named does not matter.
            if name in self._used:
                raise refused
        for name in (*(f"cameras.{n}.topic" for n in cameras), *(f"poses.{n}.topic" for n in arms)):
            check_topic(self._node, name, self.value(name))
        return self._settings(cameras, arms)

    def unknown(self) -> list[str]:
        """Parameters that were given and that nothing reads: misspelt ones, or another node's in a shared file."""
        return [name for name in self._node._parameter_overrides if not self._node.has_parameter(name)
                and not name.startswith("qos_overrides.")]

    def _settings(self, cameras: tuple[str, ...], arms: tuple[str, ...]) -> EncoderSettings:
        def values(prefix: str, *keys: str) -> list[Any]:
            return [self.value(f"{prefix}{key}") for key in keys]

        return EncoderSettings(
            cameras=tuple(CameraSettings(n, *values(f"cameras.{n}.", "topic", "transport", "head"),
                                         tuple(self.value(f"cameras.{n}.zero_shot_labels"))) for n in cameras),
            poses=tuple(PoseSettings(n, *values(f"poses.{n}.", "topic", "frame_id", "wait_s", "max_skew_s"))
                        for n in arms),
            pose_policy=self.value("poses.policy"),
            model=ModelSettings(*values("model.", "checkpoint", "block", "family", "network_size")),
            engine=EngineSettings(*values("engine.", "backend", "precision", "min_cosine", "threads",
                                           "provider", "calibration")),
            fusion=FusionSettings(*values("", "fusion.kind", "fusion.weights", "poses.tokenizer",
                                          "poses.tokenizer_weights")),
            sync=SyncSettings(*values("sync.", "slop_s", "policy", "silent_after_s")),
            output=OutputSettings(*values("", "output_dtype", "top_k", "max_rate_hz")),
            dense=DenseSettings(*values("dense.", "enabled")),
            zero_shot=ZeroShotSettings(*(tuple(given) for given in values("zero_shot.", "labels", "templates"))))
