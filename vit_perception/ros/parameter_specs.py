"""The node's parameters: name, type, default, unit, bounds, description, and which may change while
it runs.
"""

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from vit_perception.config.settings import (
    BACKENDS,
    FUSIONS,
    LOWEST_RATE_HZ,
    MOST_DEVICE,
    OUTPUT_DTYPES,
    POSE_POLICIES,
    POSE_SOURCES,
    PRECISIONS,
    PROVIDERS,
    STATE_FIELDS,
    SYNC_POLICIES,
    TOKENIZERS,
    TRANSPORTS,
)

# Why a parameter cannot change while the node is configured.
ENGINE = "the engine is opened and verified with it"
TOPICS = "topics and subscriptions are made of it"
TOKENS = "what the tokens mean must not change under a policy"
ENCODED = "texts are encoded at configure"
ONCE = "it is read once, at the start"


@dataclass(frozen=True)
class Spec:
    """One parameter: name, default (which gives the type), description with unit, and bounds or
    choices.

    ``fixed`` says why it cannot change while the node is configured; where it is empty, it can.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: str = ""

    def descriptor(self) -> ParameterDescriptor:
        """What ``ros2 param describe`` shows."""
        when = (
            f"Fixed while configured: {self.fixed}." if self.fixed else "May change while active."
        )
        descriptor = ParameterDescriptor(name=self.name, description=f"{self.description} {when}")
        if self.choices:
            descriptor.additional_constraints = "one of " + ", ".join(self.choices)
        if self.low is not None and isinstance(self.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=self.low, to_value=self.high)
            ]
        elif self.low is not None:
            descriptor.integer_range = [
                IntegerRange(from_value=int(self.low), to_value=int(self.high))
            ]
        return descriptor

    def type_or_default(self) -> Any:
        """What to declare: an empty list has no type of its own in rclpy, so a list is declared by
        its type.
        """
        return Parameter.Type.STRING_ARRAY if self.default == [] else self.default

    def accepted(self) -> str:
        """What a value must be, for an error message."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "list of strings" if isinstance(self.default, list) else type(self.default).__name__
        kind = "float (15.0, not 15)" if kind == "float" else kind
        return kind if self.low is None else f"{kind} from {self.low:g} to {self.high:g}"


NODE = (
    Spec("autostart", False, "Configure and activate as soon as the node spins.", fixed=ONCE),
    Spec(
        "camera_names",
        [],
        "The cameras, each a segment of the output topics; [] or no key is none.",
        fixed=ENGINE,
    ),
    Spec(
        "pose_names",
        [],
        "The arms, each a segment of the output topics; [] or no key is none.",
        fixed=TOKENS,
    ),
    Spec(
        "model.checkpoint",
        "demo",
        "Folder, file, hf://owner/name, or demo (DINOv2 ViT-S/14).",
        fixed=ENGINE,
    ),
    Spec(
        "model.family",
        "auto",
        "Family of checkpoints that the file is read as; auto recognises it.",
        fixed=ENGINE,
    ),
    Spec(
        "model.network_size",
        "",
        "Height and width in px that images are brought to, e.g. 518x686; '' is the "
        "checkpoint's own.",
        fixed=ENGINE,
    ),
    Spec(
        "dense.enabled",
        False,
        "Publish the depth or segmentation of a checkpoint with such a head.",
        fixed=ENGINE,
    ),
    Spec(
        "zero_shot.labels",
        [],
        "Names of classes, for CLIP and SigLIP checkpoints; [] or no key is none.",
        fixed=ENCODED,
    ),
    Spec(
        "zero_shot.templates",
        ["a photo of a {}."],
        "Texts that each label stands in, at {}; averaged.",
        fixed=ENCODED,
    ),
    Spec(
        "model.block",
        -1,
        "Whose block's tokens go out, from 0; -1 is the last, -2 the one before.",
        -100,
        100,
        fixed=ENGINE,
    ),
    Spec(
        "engine.backend",
        "auto",
        "Runtime; a named one that cannot open is an error.",
        choices=BACKENDS,
        fixed=ENGINE,
    ),
    Spec(
        "engine.precision",
        "auto",
        "Precision; auto takes the fastest the device has.",
        choices=PRECISIONS,
        fixed=ENGINE,
    ),
    Spec(
        "engine.min_cosine",
        0.0,
        "Lowest cosine to the float32 reference; 0 takes the precision's default.",
        0.0,
        1.0,
        fixed=ENGINE,
    ),
    Spec("engine.threads", 0, "CPU threads of the engine; 0 is all cores.", 0, 256, fixed=ENGINE),
    Spec(
        "engine.provider",
        "cpu",
        "Where onnxruntime runs; other backends have no such choice.",
        choices=PROVIDERS,
        fixed=ENGINE,
    ),
    Spec(
        "engine.calibration",
        "",
        "rosbag2 folder or folder of pictures that precision int8 is calibrated on.",
        fixed=ENGINE,
    ),
    Spec(
        "engine.device",
        0,
        "Index of the GPU that the engine runs on, as CUDA counts them.",
        0,
        MOST_DEVICE,
        fixed=ENGINE,
    ),
    Spec(
        "engine.file",
        "",
        "TensorRT engine that `vit-perception build --out` made elsewhere; '' is none: it is built "
        "or cached here.",
        fixed=ENGINE,
    ),
    Spec(
        "engine.check_memory",
        True,
        "Refuse to build a TensorRT engine where less memory is free than it takes.",
        fixed=ENGINE,
    ),
    Spec(
        "poses.policy",
        "mask",
        "What a missing pose does to the frame: mask its token, or require it (drop).",
        choices=POSE_POLICIES,
    ),
    Spec(
        "poses.tokenizer",
        "fourier",
        "How a pose becomes a token; fourier needs no weights.",
        choices=TOKENIZERS,
        fixed=TOKENS,
    ),
    Spec(
        "poses.tokenizer_weights",
        "",
        "safetensors file of the linear or mlp tokenizer.",
        fixed=TOKENS,
    ),
    Spec(
        "state_names",
        [],
        "The joint states, each a segment of the output topics; [] or no key is none.",
        fixed=TOKENS,
    ),
    Spec(
        "states.policy",
        "mask",
        "What a missing joint state does to the frame: mask its token, or require it.",
        choices=POSE_POLICIES,
    ),
    Spec(
        "states.tokenizer",
        "fourier",
        "How a joint state becomes a token; fourier needs no weights.",
        choices=TOKENIZERS,
        fixed=TOKENS,
    ),
    Spec("fusion.kind", "concat", "How ~/embedding is made.", choices=FUSIONS, fixed=TOKENS),
    Spec("fusion.weights", "", "safetensors file of the cross_attention fusion.", fixed=TOKENS),
    Spec(
        "sync.slop_s", 0.02, "Images of several cameras are one group within this, in s.", 0.0, 1.0
    ),
    Spec("sync.policy", "wait", "A silent camera is waited for, or masked.", choices=SYNC_POLICIES),
    Spec(
        "sync.silent_after_s",
        0.5,
        "A camera that sends nothing for this long is silent, in s.",
        0.01,
        60.0,
    ),
    Spec("output_dtype", "float32", "dtype of the tensors on the wire.", choices=OUTPUT_DTYPES),
    Spec("top_k", 5, "Classes in a classification.", 1, 1000),
    Spec("min_score", 0.0, "Classes of a lower score are left out of a classification.", 0.0, 1.0),
    Spec(
        "views",
        True,
        "Whether feature_view and attention_view are made for who subscribes to them.",
    ),
    Spec(
        "max_rate_hz",
        0.0,
        f"Most encoder runs a second, in Hz: {LOWEST_RATE_HZ:g} and more; 0 is no bound.",
        0.0,
        1000.0,
    ),
)


def camera_specs(name: str) -> tuple[Spec, ...]:
    """Parameters of the camera ``name``."""
    return (
        Spec(f"cameras.{name}.topic", f"{name}/image", "Image topic of the camera.", fixed=TOPICS),
        Spec(
            f"cameras.{name}.transport",
            "raw",
            "Image (raw) or CompressedImage.",
            choices=TRANSPORTS,
            fixed=TOPICS,
        ),
        Spec(
            f"cameras.{name}.head",
            "",
            "Folder of a classification head made by `vit-perception fit`.",
            fixed=TOPICS,
        ),
        Spec(
            f"cameras.{name}.zero_shot_labels",
            [],
            "This camera's labels in place of zero_shot.labels.",
            fixed=ENCODED,
        ),
        Spec(
            f"cameras.{name}.labels",
            [],
            "Names for the classes instead of the head's own; [''] is the own ones.",
        ),
    )


def pose_specs(name: str) -> tuple[Spec, ...]:
    """Parameters of the arm ``name``."""
    return (
        Spec(
            f"poses.{name}.source",
            "topic",
            "Where its pose comes from: a PoseStamped topic, or TF.",
            choices=POSE_SOURCES,
            fixed=TOPICS,
        ),
        Spec(
            f"poses.{name}.topic",
            f"{name}/pose",
            "PoseStamped topic of the end effector.",
            fixed=TOPICS,
        ),
        Spec(
            f"poses.{name}.frame_id",
            "",
            "Frame that its header must name; another one is bad input.",
            fixed=TOKENS,
        ),
        Spec(
            f"poses.{name}.accept_empty_frame",
            False,
            "Take a header that names no frame for one in frame_id, which may then be ''.",
            fixed=TOKENS,
        ),
        Spec(
            f"poses.{name}.base_frame",
            "",
            "With source tf: the frame that the pose is given in.",
            fixed=TOKENS,
        ),
        Spec(
            f"poses.{name}.ee_frame", "", "With source tf: the end effector's frame.", fixed=TOKENS
        ),
        Spec(
            f"poses.{name}.wait_s",
            0.02,
            "Longest wait for a sample at or after the image stamp, in s.",
            0.0,
            1.0,
        ),
        Spec(f"poses.{name}.max_skew_s", 0.05, "Farthest sample that may be held, in s.", 0.0, 2.0),
    )


def state_specs(name: str) -> tuple[Spec, ...]:
    """Parameters of the joint state ``name``."""
    return (
        Spec(
            f"states.{name}.topic", "joint_states", "JointState topic of its joints.", fixed=TOPICS
        ),
        Spec(
            f"states.{name}.joints",
            [],
            "Its joints by name, in the order of the token's numbers.",
            fixed=TOKENS,
        ),
        Spec(
            f"states.{name}.fields",
            ["position"],
            f"What of each joint: one or both of {', '.join(STATE_FIELDS)}.",
            fixed=TOKENS,
        ),
        Spec(
            f"states.{name}.continuous",
            [],
            "Those of its joints that turn without end: interpolated the shorter "
            "way, in (-pi, pi].",
            fixed=TOKENS,
        ),
        Spec(
            f"states.{name}.wait_s",
            0.02,
            "Longest wait for samples at or after the image stamp, in s.",
            0.0,
            1.0,
        ),
        Spec(
            f"states.{name}.max_skew_s", 0.05, "Farthest sample that may be held, in s.", 0.0, 2.0
        ),
        Spec(
            f"states.{name}.tokenizer_weights",
            "",
            "safetensors file of its linear or mlp tokenizer.",
            fixed=TOKENS,
        ),
    )
