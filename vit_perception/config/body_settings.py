"""Settings of the robot's body: poses of its arms, and joints of its mechanisms."""

from dataclasses import dataclass

from vit_perception.config.checks import BadSetting, check_name, expand_paths, one_of, within

POSE_SOURCES = ("topic", "tf")
STATE_FIELDS = ("position", "velocity")


@dataclass(frozen=True)
class PoseSettings:
    """One arm: its PoseStamped topic, the frame its header must name, and how long to wait for a
    sample.

    With ``accept_empty_frame`` a header that names no frame counts as one of ``frame_id``, which
    may then be empty. With ``source`` tf the pose is that of ``ee_frame`` in ``base_frame`` as TF
    has it, and topic and frame_id mean nothing.
    """

    name: str
    topic: str
    frame_id: str = ""
    wait_s: float = 0.02
    max_skew_s: float = 0.05
    source: str = "topic"
    base_frame: str = ""
    ee_frame: str = ""
    accept_empty_frame: bool = False

    def __post_init__(self):
        check_name("pose_names", self.name)
        prefix = f"poses.{self.name}."
        one_of(f"{prefix}source", self.source, POSE_SOURCES)
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
            if not getattr(self, name) and not (name == "frame_id" and self.accept_empty_frame):
                raise BadSetting(f"{prefix}{name}", "", accepted)
        if self.source == "tf" and self.base_frame == self.ee_frame:
            raise BadSetting(
                f"{prefix}ee_frame", self.ee_frame, f"another frame than {prefix}base_frame"
            )
        within(f"{prefix}wait_s", self.wait_s, 0.0, 1.0, "s")
        within(f"{prefix}max_skew_s", self.max_skew_s, 0.0, 2.0, "s")

    @property
    def expected_frame_id(self) -> str:
        """What the header of each of its poses names."""
        return self.base_frame if self.source == "tf" else self.frame_id


@dataclass(frozen=True)
class StateSettings:
    """Joints of one mechanism: their JointState topic, which of them in which order, and what of
    each.

    Joints may come in any order and in messages of their own (an arm's and a gripper's driver on
    one topic). ``tokenizer_weights`` is the safetensors file that ``states.tokenizer`` linear or
    mlp needs. ``continuous`` are those of ``joints`` that turn without end: their position is an
    angle, interpolated the shorter way, in (-pi, pi].
    """

    name: str
    topic: str
    joints: tuple[str, ...]
    fields: tuple[str, ...] = ("position",)
    wait_s: float = 0.02
    max_skew_s: float = 0.05
    tokenizer_weights: str = ""
    continuous: tuple[str, ...] = ()

    def __post_init__(self):
        check_name("state_names", self.name)
        prefix = f"states.{self.name}."
        if not self.topic:
            raise BadSetting(f"{prefix}topic", self.topic, "the name of a JointState topic")
        if not self.joints or "" in self.joints or len(set(self.joints)) < len(self.joints):
            raise BadSetting(
                f"{prefix}joints",
                list(self.joints),
                "names of joints, each once, in the order wanted",
            )
        if set(self.continuous) - set(self.joints) or len(set(self.continuous)) < len(
            self.continuous
        ):
            raise BadSetting(
                f"{prefix}continuous",
                list(self.continuous),
                f"some of {prefix}joints, each once: {', '.join(self.joints)}",
            )
        if (
            not self.fields
            or len(set(self.fields)) < len(self.fields)
            or set(self.fields) - set(STATE_FIELDS)
        ):
            raise BadSetting(
                f"{prefix}fields", list(self.fields), "one or both of " + ", ".join(STATE_FIELDS)
            )
        within(f"{prefix}wait_s", self.wait_s, 0.0, 1.0, "s")
        within(f"{prefix}max_skew_s", self.max_skew_s, 0.0, 2.0, "s")
        expand_paths(self, tokenizer_weights=f"{prefix}tokenizer_weights")
