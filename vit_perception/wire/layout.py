"""The layout: JSON that explains rows, columns and origin of every tensor on the wire."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.json_values import parsed
from vit_perception.wire.layout_dense import LayoutDense
from vit_perception.wire.layout_encoders import LayoutConnector, LayoutEncoder
from vit_perception.wire.layout_history import LayoutHistory
from vit_perception.wire.layout_sources import (
    POSE_FIELDS,
    POSE_TYPE,
    STATE_TYPE,
    LayoutApart,
    LayoutBasis,
    LayoutPolicyState,
    LayoutRays,
    LayoutSource,
    LayoutState,
)
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import ENCODINGS

__all__ = [
    "MEASURED",
    "POSE_FIELDS",
    "POSE_TYPE",
    "SCHEMA_VERSION",
    "STATE_TYPE",
    "Layout",
    "LayoutApart",
    "LayoutBasis",
    "LayoutCamera",
    "LayoutConnector",
    "LayoutDense",
    "LayoutGroup",
    "LayoutHistory",
    "LayoutPolicyState",
    "LayoutSource",
    "LayoutState",
]

SCHEMA_VERSION = 1
_TOPIC = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class LayoutGroup:
    """Rows of ``~/tokens`` that belong together."""

    # <source>/<kind>; of several encoders <source>/<encoder>/<kind>; of an earlier step ...@<step>
    name: str
    kind: str  # cls, patch, pose, state, ...
    source: str  # the name of the camera or other source
    start: int  # first row
    stop: int  # the row after the last one
    grid: tuple[int, int] | None = None  # (rows, columns) of patch tokens
    # The name of one of ``encoders``. Not in the JSON if there is only one encoder.
    encoder: str = ""
    # How many strides of ``history`` it is older than the stamp. Not in the JSON without history.
    step: int = 0


@dataclass(frozen=True)
class LayoutCamera:
    """How source pixels became network pixels: ``network_px = source_px * scale + offset``.

    Source size, scale and offset are None until the first image has arrived.
    """

    name: str
    frame_id: str  # of its images
    fit: str  # stretch, crop, pad, stretch_crop or stretch_corner
    network_size_px: tuple[int, int]  # (height, width)
    patch_size_px: int
    source_size_px: tuple[int, int] | None = None  # (height, width)
    scale: tuple[float, float] | None = None  # (y, x)
    offset_px: tuple[float, float] | None = None  # (y, x)
    labels: tuple[str, ...] = ()  # of its classification; empty if it has none
    scores: str = "softmax"  # of its classification: softmax or sigmoid
    # (x, y, width, height), px of the source: the network sees only this part. Source size, scale
    # and offset are those of the whole image. None, and not in the JSON, without one.
    roi: tuple[int, int, int, int] | None = None
    # Whether the source is the rectified image. Not in the JSON if it is not.
    rectified: bool = False


# Fields that are measured when the engine opens: they differ a little each time, and change no
# meaning.
MEASURED = ("min_cosine",)
_OF_SOME = ("roi", "rectified")  # fields of a camera
_LEFT_OUT_IF_EMPTY = ("dense", "sources", "connector", "apart", "policy_state", "rays", "basis")


@dataclass(frozen=True)
class Layout:
    """What ``~/layout`` says: how to read every topic of the node, and what really runs."""

    groups: tuple[LayoutGroup, ...]  # of the rows of ~/tokens, one after another
    cameras: tuple[LayoutCamera, ...]
    width: int  # D, of every token
    dtype: str  # of tensors on the wire: float32, float16 or int8
    model: str  # name of the checkpoint
    weights_sha256: str  # of the checkpoint's file
    encoder_sha256: str  # of weights, configuration, block and preprocessing
    block: int  # transformer block whose tokens are sent
    runtime: str  # that runs the encoder, such as tensorrt
    precision: str  # such as float16
    min_cosine: float  # lowest similarity to the float32 model, measured when the engine opened
    fusion: str  # concat or cross_attention
    fusion_weights_sha256: str = ""  # empty if it has no weights
    pose_tokenizer: str = "fourier"
    pose_tokenizer_sha256: str = ""  # empty if it has no weights
    embedding_width: int = 0  # L, of ~/embedding
    states: tuple[LayoutState, ...] = ()
    state_tokenizer: str = "fourier"
    schema_version: int = SCHEMA_VERSION
    # None, and not in the JSON, while no depth or segmentation is switched on.
    dense: LayoutDense | None = None
    # Sources of other kinds than cameras, poses and states. Not in the JSON if there are none.
    sources: tuple[LayoutSource, ...] = ()
    # What a policy puts after its encoder. None, and not in the JSON, without one.
    connector: LayoutConnector | None = None
    # Groups that are not in ~/tokens. Not in the JSON if there are none.
    apart: tuple[LayoutApart, ...] = ()
    # None, and not in the JSON, without policy.state.
    policy_state: LayoutPolicyState | None = None
    # None, and not in the JSON, without tokens.basis.
    basis: LayoutBasis | None = None
    # Every encoder of a node with several, the first one too. Not in the JSON if there is one.
    # ``model``, digests, ``block``, ``runtime``, ``precision``, ``connector`` and the geometry of
    # the cameras are those of the first.
    encoders: tuple[LayoutEncoder, ...] = ()
    # The earlier frames in ~/tokens, oldest first. None, and not in the JSON, without them.
    history: LayoutHistory | None = None
    # Not in the JSON if there are none.
    rays: tuple[LayoutRays, ...] = ()

    @cached_property
    def samples(self) -> tuple[LayoutSource, ...]:
        """Every source but the cameras, in the order of the groups."""
        poses = [
            LayoutSource(g.source, "pose", "poses", POSE_TYPE, POSE_FIELDS)
            for g in self.groups
            if g.kind == "pose" and not g.step
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
        """A digest of all fields except ``MEASURED``: layouts with the same id mean the same."""
        meaning = {name: value for name, value in self._fields().items() if name not in MEASURED}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    def group(self, name: str) -> LayoutGroup:
        """Return the group called ``name``, for example ``wrist/patch``.

        Raises:
            KeyError: there is no such group; the message names those that there are.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(
            f"no token group {name!r}; there are: {', '.join(g.name for g in self.groups)}"
        )

    def split(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Return views of ``tokens`` (N, D) by group name, each (T, D).

        Raises:
            InvalidValue: ``tokens`` has another number of rows.
        """
        if len(tokens) != self.token_count:
            raise InvalidValue(f"tokens has {len(tokens)} rows, the layout {self.token_count}")
        return {g.name: tokens[g.start : g.stop] for g in self.groups}

    def steps(self, tokens: np.ndarray) -> np.ndarray:
        """Return ``tokens`` (N, D), or their mask (N,), as a view (K, N / K, ...), oldest first.

        K is ``history.frames``, or 1. It is what a window of K observations has.
        """
        frames = self.history.frames if self.history else 1
        return tokens.reshape(frames, -1, *tokens.shape[1:])

    def to_json(self) -> str:
        """Return the text of ``~/layout``."""
        return json.dumps({"layout_id": self.layout_id, **self._fields()})

    def _fields(self) -> dict[str, Any]:
        # Without keys that say nothing: readers that do not know them still read the layout.
        given = {
            name: value
            for name, value in written_fields(self).items()
            if name not in _LEFT_OUT_IF_EMPTY or value
        }
        states = [
            {name: value for name, value in state.items() if name != "continuous" or value}
            for state in given["states"]
        ]
        connector = given.get("connector")
        if connector and not connector["left_out"]:
            del connector["left_out"]
        return given | {"states": states}

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Return the layout in the text of a ``~/layout`` message. Unknown keys are ignored.

        Raises:
            BadInput: ``layout``: the text is not JSON, of another schema version, has a wrong
                value, or its groups do not follow one another. It is a ValueError.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                "layout", f"the layout is no JSON: {error}; accepted: the text of ~/layout"
            ) from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise BadInput(
                "layout", f"layout schema_version is {version!r}; accepted: {SCHEMA_VERSION}"
            )
        layout: Layout = parsed(cls, content, "layout")
        layout._check()
        return layout

    def _check(self) -> None:
        """Check that the groups cover rows 0 to N, that each grid has its group's size, and that
        those apart can be topics.
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
        for each in self.apart:
            if not each.rows or not each.width or not _TOPIC.fullmatch(each.kind):
                raise BadInput(
                    "layout",
                    f"layout.apart: {each} cannot be; accepted: rows and width from 1, and a kind "
                    "of letters, digits and underscores",
                )
        if len({each.kind for each in self.apart}) < len(self.apart):
            raise BadInput(
                "layout",
                f"layout.apart: {[a.kind for a in self.apart]}; accepted: kinds that differ",
            )
        if self.history and (problem := self.history.problem(self.groups)):
            raise BadInput("layout", f"layout.{problem}")
        if self.history is None and any(group.step for group in self.groups):
            raise BadInput("layout", "layout.groups has steps; accepted: step 0 without history")
        known = {"", *(encoder.name for encoder in self.encoders)}
        if len(known) <= len(self.encoders) or not {g.encoder for g in self.groups} <= known:
            raise BadInput(
                "layout",
                f"layout.encoders: {[e.name for e in self.encoders]}; accepted: names that differ, "
                "among them the encoder of each group",
            )
        if len({group.name for group in self.groups}) < len(self.groups):
            raise BadInput(
                "layout",
                f"layout.groups: {[g.name for g in self.groups]}; accepted: names that differ",
            )


def written_fields(layout: Layout) -> dict[str, Any]:
    """Return the fields of ``layout`` without the keys that only some cameras, several encoders, or
    a history have.
    """
    fields = asdict(layout)
    fields["cameras"] = [
        {name: value for name, value in camera.items() if value or name not in _OF_SOME}
        for camera in fields["cameras"]
    ]
    of_groups = {"encoder": fields["encoders"], "step": fields["history"]}
    groups = [
        {name: value for name, value in group.items() if of_groups.get(name, True)}
        for group in fields["groups"]
    ]
    kept = {n: v for n, v in fields.items() if v or n not in ("encoders", "history")}
    return kept | {"groups": groups}
