"""The layout: the JSON text that explains the rows, the columns and the origin of every tensor on
the wire.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.json_values import parsed
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import ENCODINGS

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LayoutGroup:
    """Rows ``start`` to ``stop`` (exclusive) of ``~/tokens``. ``grid`` is (rows, columns) of patch
    tokens.
    """

    name: str
    kind: str
    source: str
    start: int
    stop: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class LayoutCamera:
    """How source pixels became network pixels: ``network_px = source_px * scale + offset`` per
    axis.

    Sizes are (height, width) in pixels, ``scale`` and ``offset_px`` (y, x); source size, scale and
    offset are None until the first image has come.
    """

    name: str
    frame_id: str
    fit: str
    network_size_px: tuple[int, int]
    patch_size_px: int
    source_size_px: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    offset_px: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
    scores: str = "softmax"


@dataclass(frozen=True)
class LayoutDense:
    """What a pixel of each camera's ``depth`` or ``segmentation`` (``kind``) means, and whose
    blocks' tokens it took.

    ``quantity`` is ``metric_depth`` (``unit`` m), ``relative_inverse_depth`` (larger is nearer; no
    unit, and scale and shift are unknown and change from image to image), ``depth`` where the
    checkpoint does not say which, or ``class``: a pixel is then an index into ``labels``, or
    ``no_label`` where the network saw nothing. Depth is NaN there.
    """

    kind: str
    quantity: str
    unit: str
    blocks: tuple[int, ...]
    labels: tuple[str, ...] = ()
    no_label: int = 0


@dataclass(frozen=True)
class LayoutConnector:
    """What a policy puts behind its encoder: ``width``, ``patch_size_px`` and grids are those
    behind it.
    """

    # Channels before, between and behind its linear layers. The first is ``shuffle`` squared times
    # the encoder's, or those of the encoders together.
    widths: tuple[int, ...]
    # So many patches of the encoder by so many are one token.
    shuffle: int = 1
    # The factor on the tokens; divided by it, they are what the policy's ``embed_image`` gives.
    scale: float = 1.0
    # Channels of each of several encoders whose tokens stand side by side; empty for one.
    joined: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayoutState:
    """Which joints a state token stands for, and which of ``position`` and ``velocity`` of each, in
    which order.

    ``continuous`` are those of the joints whose position is in (-pi, pi]; not in the JSON where
    there are none.
    """

    name: str
    joints: tuple[str, ...]
    fields: tuple[str, ...]
    tokenizer_sha256: str = ""
    continuous: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayoutSource:
    """A source whose value at the image's stamp is sent as ``~/<name>/<kind>_at_image``."""

    name: str
    kind: str  # of its token group, its topic and its column, such as pose
    group: str  # its kind's name among parameters and in items of a data set, such as poses
    type: str  # of its topic, such as geometry_msgs/msg/PoseStamped
    # Where the message holds its numbers, in their order: paths such as pose.position.x.
    fields: tuple[str, ...]
    # A name for each number of a field, sent as the message's ``name``. Empty: a field is one
    # number.
    names: tuple[str, ...] = ()
    tokenizer: str = "fourier"
    tokenizer_sha256: str = ""

    @property
    def topic(self) -> str:
        """Its topic below the node's name."""
        return f"{self.name}/{self.kind}_at_image"

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return len(self.fields) * max(1, len(self.names))


POSE_TYPE = "geometry_msgs/msg/PoseStamped"
POSE_FIELDS = (
    *(f"pose.position.{axis}" for axis in "xyz"),
    *(f"pose.orientation.{axis}" for axis in "xyzw"),
)
STATE_TYPE = "sensor_msgs/msg/JointState"

# What is measured when the engine opens: it differs a little each time, and changes no meaning.
MEASURED = ("min_cosine",)


@dataclass(frozen=True)
class Layout:
    """What ``~/layout`` says: how to read every topic of the node, and what really runs.

    ``dense`` is None, and not in the JSON, while no depth or segmentation is switched on.
    ``sources`` describes sources of other kinds than cameras, poses and states, ``connector`` what
    a policy puts behind its encoder; they are not in the JSON where there are none.
    """

    groups: tuple[LayoutGroup, ...]
    cameras: tuple[LayoutCamera, ...]
    width: int
    dtype: str
    model: str
    weights_sha256: str
    encoder_sha256: str
    block: int
    runtime: str
    precision: str
    min_cosine: float
    fusion: str
    fusion_weights_sha256: str = ""
    pose_tokenizer: str = "fourier"
    pose_tokenizer_sha256: str = ""
    embedding_width: int = 0
    states: tuple[LayoutState, ...] = ()
    state_tokenizer: str = "fourier"
    schema_version: int = SCHEMA_VERSION
    dense: LayoutDense | None = None
    sources: tuple[LayoutSource, ...] = ()
    connector: LayoutConnector | None = None

    @cached_property
    def samples(self) -> tuple[LayoutSource, ...]:
        """Every source but the cameras, in the order of the groups."""
        poses = [
            LayoutSource(g.source, "pose", "poses", POSE_TYPE, POSE_FIELDS)
            for g in self.groups
            if g.kind == "pose"
        ]
        states = [
            LayoutSource(s.name, "state", "states", STATE_TYPE, s.fields, s.joints)
            for s in self.states
        ]
        return (*poses, *states, *self.sources)

    @property
    def token_count(self) -> int:
        """N, the number of rows of ``~/tokens``; it never changes while the node is configured."""
        return self.groups[-1].stop if self.groups else 0

    @property
    def layout_id(self) -> str:
        """A digest of everything above but ``MEASURED``: two layouts with one id mean the same."""
        meaning = {name: value for name, value in self._fields().items() if name not in MEASURED}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    def group(self, name: str) -> LayoutGroup:
        """The group called ``name``, e.g. ``wrist/patch``. Raises KeyError with the names there
        are.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(
            f"no token group {name!r}; there are: {', '.join(g.name for g in self.groups)}"
        )

    def split(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Views of ``tokens`` (N, D) by group name, each (T, D)."""
        if len(tokens) != self.token_count:
            raise InvalidValue(f"tokens has {len(tokens)} rows, the layout {self.token_count}")
        return {g.name: tokens[g.start : g.stop] for g in self.groups}

    def to_json(self) -> str:
        """The text of ``~/layout``."""
        return json.dumps({"layout_id": self.layout_id, **self._fields()})

    def _fields(self) -> dict[str, Any]:
        # Nothing of what there is none of: readers that do not know the key read the layout as
        # before.
        found = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("dense", "sources", "connector") or value
        }
        return found | {
            "states": [
                {name: value for name, value in state.items() if name != "continuous" or value}
                for state in found["states"]
            ]
        }

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """The layout of a ``~/layout`` message. Keys that this version does not know are ignored.

        Raises BadInput (a ValueError) with the key, its value and what would be accepted: for
        another schema version, and for groups that do not follow one another.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                "layout", f"the layout is no JSON: {error}; accepted: the text of ~/layout"
            ) from error
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise BadInput(
                "layout", f"layout schema_version is {version!r}; accepted: {SCHEMA_VERSION}"
            )
        layout: Layout = parsed(cls, found, "layout")
        layout._check()
        return layout

    def _check(self) -> None:
        """Groups cover rows 0 to N one after another, and a grid has as many patches as its group
        has rows.
        """
        if self.dtype not in ENCODINGS:
            raise BadInput(
                "layout", f"layout.dtype is {self.dtype!r}; accepted: {', '.join(ENCODINGS)}"
            )
        row = 0
        for group in self.groups:
            if (
                group.start != row
                or group.stop <= row
                or (group.grid and math.prod(group.grid) != group.stop - row)
            ):
                raise BadInput(
                    "layout",
                    f"layout.groups: {group} does not fit; accepted: start {row}, a larger stop, "
                    "and a grid of as many patches as rows",
                )
            row = group.stop
        if len({group.name for group in self.groups}) < len(self.groups):
            raise BadInput(
                "layout",
                f"layout.groups: {[g.name for g in self.groups]}; accepted: names that differ",
            )
