"""Settings of cameras, poses of arms, joint states, and the state of a policy."""

from dataclasses import MISSING, dataclass
from typing import ClassVar

from vit_perception.config.cameras.region import check_region
from vit_perception.config.cameras.transports import TRANSPORTS, check_transport, info_topic_of
from vit_perception.config.checks import BadSetting, check_labels, check_name
from vit_perception.config.input_qos import check_input_qos, deadline_param, liveliness_param
from vit_perception.config.named_groups import NamedGroup, register_group
from vit_perception.config.parameter import (
    ENCODED,
    ENGINE,
    TOKENS,
    TOPICS,
    Section,
    param,
    require,
)
from vit_perception.wire.records import Roi

POSE_SOURCES = ("topic", "tf")
STATE_FIELDS = ("position", "velocity")

_WAIT_BOUNDS_S = (0.0, 1.0)
_SKEW_BOUNDS_S = (0.0, 2.0)


@dataclass(frozen=True)
class CameraSettings(Section):
    """One camera, and the head that classifies its images."""

    PREFIX: ClassVar[str] = "cameras.{}."

    # The name: a segment of the camera's output topics.
    name: str
    topic: str = param(MISSING, "Topic of the camera's images.", fixed=TOPICS)
    transport: str = param(
        "raw",
        "How the images come: raw (Image), compressed (CompressedImage), or as video: ffmpeg "
        "(FFMPEGPacket), foxglove (CompressedVideo).",
        choices=tuple(TRANSPORTS),
        fixed=TOPICS,
    )
    head: str = param(
        "",
        "Folder of a classification head made by `vit-perception fit`.",
        fixed=TOPICS,
        is_path=True,
    )
    zero_shot_labels: tuple[str, ...] = param(
        (), "This camera's labels instead of zero_shot.labels.", fixed=ENCODED
    )
    labels: tuple[str, ...] = param(
        (), "Names for the classes, one each. [''] takes the names of the head."
    )
    roi: tuple[int, ...] = param(
        (),
        "Region of interest as [x, y, width, height] in px of the image: the network sees only "
        "that part (docs/cameras.md). [] or no key is the whole image.",
        fixed=TOKENS,
    )
    rectify: bool = param(
        False,
        "Undistort the images with the camera's CameraInfo, before roi (docs/cameras.md).",
        fixed=TOKENS,
    )
    camera_info_topic: str = param(
        "",
        "Topic of the CameraInfo, with rectify or rays. '' is camera_info beside the image topic.",
        fixed=TOPICS,
    )
    depth_topic: str = param(
        "",
        "Topic of depth images that are aligned with the camera's, for the points of its rays "
        "(docs/cameras.md). '' is none.",
        fixed=TOPICS,
    )
    depth_max_skew_s: float = param(
        0.02,
        "Maximum time difference of a depth image and the camera's image, in s.",
        unit="s",
        bounds=(0.0, 1.0),
        fixed=TOPICS,
    )
    deadline_s: float = deadline_param()
    liveliness_s: float = liveliness_param()

    def __post_init__(self) -> None:
        check_name("camera_names", self.name)
        require(f"{self.prefix}topic", self.topic, "the name of an image topic")
        check_transport(f"{self.prefix}transport", self.transport)
        self.check_parameters()
        check_input_qos(self)
        check_labels(f"{self.prefix}zero_shot_labels", self.zero_shot_labels)
        if self.head and self.zero_shot_labels:
            raise BadSetting(
                f"{self.prefix}zero_shot_labels",
                list(self.zero_shot_labels),
                f"none for a camera with a head ({self.head})",
            )
        check_region(f"{self.prefix}roi", self.roi)

    @property
    def message_type(self) -> str:
        """The type of the images' messages."""
        return TRANSPORTS[self.transport].type

    @property
    def info_topic(self) -> str:
        """The topic of the CameraInfo."""
        return self.camera_info_topic or info_topic_of(self.topic)

    @property
    def region(self) -> Roi | None:
        """The part of an image that the network sees; None is all of it."""
        return Roi(*self.roi) if self.roi else None


@dataclass(frozen=True)
class PoseSettings(Section):
    """The end effector's pose of one arm, from a topic or from TF."""

    PREFIX: ClassVar[str] = "poses.{}."

    # The name: a segment of the arm's output topics.
    name: str
    topic: str = param(MISSING, "PoseStamped topic of the end effector.", fixed=TOPICS)
    frame_id: str = param(
        "", "Frame that the header of each pose must name; another one is bad input.", fixed=TOKENS
    )
    wait_s: float = param(
        0.02,
        "Longest wait for a pose at or after the image's stamp, in s.",
        unit="s",
        bounds=_WAIT_BOUNDS_S,
    )
    max_skew_s: float = param(
        0.05,
        "Maximum time difference at which a single pose is used, in s.",
        unit="s",
        bounds=_SKEW_BOUNDS_S,
    )
    source: str = param(
        "topic",
        "Where the pose comes from: a PoseStamped topic, or TF (needs tf2_ros).",
        choices=POSE_SOURCES,
        fixed=TOPICS,
    )
    base_frame: str = param("", "With source tf: the frame that poses are given in.", fixed=TOKENS)
    ee_frame: str = param("", "With source tf: the frame of the end effector.", fixed=TOKENS)
    accept_empty_frame: bool = param(
        False,
        "Whether a header that names no frame counts as one in frame_id, which may then be ''.",
        fixed=TOKENS,
    )
    deadline_s: float = deadline_param()
    liveliness_s: float = liveliness_param()

    def __post_init__(self) -> None:
        check_name("pose_names", self.name)
        self.check_parameters()
        check_input_qos(self, through_tf=self.source == "tf")
        prefix = self.prefix
        if self.source == "topic":
            required = {
                "topic": "the name of a PoseStamped topic",
                "frame_id": "the frame that the poses are given in; '' only with "
                f"{prefix}accept_empty_frame",
            }
        else:
            required = {
                "base_frame": "the TF frame that the poses are given in",
                "ee_frame": "the TF frame of the end effector",
            }
        for name, accepted in required.items():
            if not (name == "frame_id" and self.accept_empty_frame):
                require(f"{prefix}{name}", getattr(self, name), accepted)
        if self.source == "tf" and self.base_frame == self.ee_frame:
            raise BadSetting(
                f"{prefix}ee_frame", self.ee_frame, f"another frame than {prefix}base_frame"
            )

    @property
    def expected_frame_id(self) -> str:
        """The frame that the header of each pose names."""
        return self.base_frame if self.source == "tf" else self.frame_id


@dataclass(frozen=True)
class StateSettings(Section):
    """The joints of one mechanism, in the order of the token's numbers.

    Messages may hold the joints in any order, and only some of them: drivers of an arm and of a
    gripper may share a topic.
    """

    PREFIX: ClassVar[str] = "states.{}."

    # The name: a segment of the state's output topics.
    name: str
    topic: str = param(MISSING, "JointState topic of the joints.", fixed=TOPICS)
    joints: tuple[str, ...] = param(
        MISSING, "Names of the joints, in the order of the token's numbers.", fixed=TOKENS
    )
    fields: tuple[str, ...] = param(
        ("position",),
        f"What is used of each joint: one or both of {', '.join(STATE_FIELDS)}.",
        choices=STATE_FIELDS,
        fixed=TOKENS,
    )
    wait_s: float = param(
        0.02,
        "Longest wait for samples at or after the image's stamp, in s.",
        unit="s",
        bounds=_WAIT_BOUNDS_S,
    )
    max_skew_s: float = param(
        0.05,
        "Maximum time difference at which a single sample is used, in s.",
        unit="s",
        bounds=_SKEW_BOUNDS_S,
    )
    tokenizer_weights: str = param(
        "", "safetensors file for states.tokenizer linear or mlp.", fixed=TOKENS, is_path=True
    )
    continuous: tuple[str, ...] = param(
        (),
        "Joints that turn without end: their angles take the shorter way, in (-pi, pi].",
        fixed=TOKENS,
    )
    deadline_s: float = deadline_param()
    liveliness_s: float = liveliness_param()

    def __post_init__(self) -> None:
        check_name("state_names", self.name)
        prefix = self.prefix
        require(f"{prefix}topic", self.topic, "the name of a JointState topic")
        if not self.joints or "" in self.joints or _repeats(self.joints):
            raise BadSetting(
                f"{prefix}joints",
                list(self.joints),
                "names of joints, each once, in the order wanted",
            )
        if set(self.continuous) - set(self.joints) or _repeats(self.continuous):
            raise BadSetting(
                f"{prefix}continuous",
                list(self.continuous),
                f"some of {prefix}joints, each once: {', '.join(self.joints)}",
            )
        if not self.fields or _repeats(self.fields) or set(self.fields) - set(STATE_FIELDS):
            raise BadSetting(
                f"{prefix}fields", list(self.fields), "one or both of " + ", ".join(STATE_FIELDS)
            )
        self.check_parameters()
        check_input_qos(self)


@dataclass(frozen=True)
class PolicySettings(Section):
    """What the policy in the checkpoint is given besides images."""

    PREFIX: ClassVar[str] = "policy."

    state: tuple[str, ...] = param(
        (),
        "Parts of poses and joint states that make the policy's state, in the order of its "
        "training, such as arm.position, arm.rotation6d, gripper (docs/policies.md). [] or no key "
        "is none.",
        fixed=TOKENS,
    )

    def __post_init__(self) -> None:
        self.check_parameters()


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)


CAMERAS = register_group(
    NamedGroup(
        prefix="cameras",
        names_parameter="camera_names",
        settings=CameraSettings,
        default_topic="{}/image",
        what="cameras",
        fixed=ENGINE,
    )
)
POSES = register_group(
    NamedGroup(
        prefix="poses",
        names_parameter="pose_names",
        settings=PoseSettings,
        default_topic="{}/pose",
        what="arms",
    )
)
STATES = register_group(
    NamedGroup(
        prefix="states",
        names_parameter="state_names",
        settings=StateSettings,
        default_topic="joint_states",
        what="joint states",
    )
)
