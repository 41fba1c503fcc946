"""What the layout says of sources other than cameras."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayoutState:
    """The numbers of a state token: field after field, each in the order of the joints."""

    name: str
    joints: tuple[str, ...]
    fields: tuple[str, ...]  # position, velocity, or both
    tokenizer_sha256: str = ""  # of its weights; empty if it has none
    # Joints whose position is in (-pi, pi]. Not in the JSON if there are none.
    continuous: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayoutSource:
    """A source whose value at the image's stamp is sent as ``~/<name>/<kind>_at_image``."""

    name: str
    kind: str  # of its token group, its topic and its column, such as pose
    group: str  # its kind's name among parameters and in items of a data set, such as poses
    type: str  # of its topic, such as geometry_msgs/msg/PoseStamped
    # Places of its numbers in the message, in order: paths such as pose.position.x.
    fields: tuple[str, ...]
    # A name for each number of a field, sent as the message's ``name``. Empty: a field is one
    # number.
    names: tuple[str, ...] = ()
    tokenizer: str = "fourier"
    tokenizer_sha256: str = ""  # of its weights; empty if it has none

    @property
    def topic(self) -> str:
        """Its topic below the node's name."""
        return f"{self.name}/{self.kind}_at_image"

    @property
    def count(self) -> int:
        """The number of its numbers."""
        return len(self.fields) * max(1, len(self.names))


@dataclass(frozen=True)
class LayoutBasis:
    """Of what patch tokens are coefficients (``basis.py``)."""

    sha256: str  # digest of the basis that ``~/basis`` carries
    dims: int  # K, the number of coefficients of a token


@dataclass(frozen=True)
class LayoutApart:
    """Tokens of another width than D: a topic of their own, ``~/<kind>``, and not in ``~/tokens``.

    A row of zeros is a missing token.
    """

    name: str  # <source>/<kind>
    kind: str  # such as policy_state; also the topic below the node's name
    source: str
    rows: int
    width: int  # of each token

    @property
    def topic(self) -> str:
        """Their topic below the node's name."""
        return self.kind


@dataclass(frozen=True)
class LayoutPolicyState:
    """What the token of a policy's state is made of. Its group is of the kind ``policy_state``."""

    parts: tuple[str, ...]  # as policy.state names them
    numbers: tuple[str, ...]  # in the policy's order, such as arm.position.x
    units: tuple[str, ...]  # of each number: m, rad, ...; 1 for none
    normalisation: str  # as the policy was trained: identity, mean_std, min_max, ...
    sha256: str  # of the projection's weights and of the statistics


@dataclass(frozen=True)
class LayoutRays:
    """What the rays of a camera's patches are given in.

    A row of a group of the kind ``ray`` is made of 6 numbers: the ray's direction (a unit vector),
    and its moment, origin × direction, in m. One of the kind ``points`` is made of 3: the point
    that the patch sees, in m.
    """

    name: str
    camera: str  # whose patches they go through, in the same order
    base_frame: str  # of the rays; empty: not named
    pose: str  # the arm that the camera is mounted on; empty: it does not move
    # The camera's optical frame in the arm's end-effector frame, or in the base frame.
    translation_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]
    tokenizer: str = "fourier"
    tokenizer_sha256: str = ""  # of the weights for rays; empty if there are none
    points_tokenizer_sha256: str = ""  # of those for points


POSE_TYPE = "geometry_msgs/msg/PoseStamped"
POSE_FIELDS = (
    *(f"pose.position.{axis}" for axis in "xyz"),
    *(f"pose.orientation.{axis}" for axis in "xyzw"),
)
STATE_TYPE = "sensor_msgs/msg/JointState"
