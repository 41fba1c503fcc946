"""The one table of the node's output topics: name, type, when it is sent, and its fields.

The node, `embed --format mcap`, the live decoder and the table in docs/wire_format.md read it.
Fields are plain values: numbers, texts, arrays, and dicts by the names of the ROS message.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from vit_perception.wire.basis import REDUCED_KIND, Basis, PackedGroups
from vit_perception.wire.layout import POSE_TYPE, STATE_TYPE, Layout
from vit_perception.wire.monitor_topics import MONITOR_ROWS
from vit_perception.wire.records import CameraResult, FrameResult
from vit_perception.wire.sample_fields import sample_fields
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import (
    TensorFields,
    encode_bytes,
    encode_labels,
    encode_mask,
    encode_rows,
    encode_stamps,
    encode_tensor,
    exact_dtype,
)

Fields = dict[str, Any]
# dense: last, while somebody subscribes. view: images for people, made by a separate thread.
When = Literal["frame", "dense", "view", "configure", "layout"]

IMAGE_TYPE = "sensor_msgs/msg/Image"
CLASSES_TYPE = "vision_msgs/msg/Classification"
INFO_TYPE = "vision_msgs/msg/VisionInfo"
TEXT_TYPE = "std_msgs/msg/String"


@dataclass(frozen=True, eq=False)
class Outgoing:
    """One frame on its way out."""

    result: FrameResult
    layout: Layout
    # Depth (H, W) float32, or labels (H, W), of a camera; None while no dense head is switched on.
    dense: Callable[[CameraResult], np.ndarray] | None = None
    # The layout's basis; None if it has none.
    basis: Basis | None = None

    @cached_property
    def packed(self) -> PackedGroups | None:
        """The sequence's groups as coefficients, each reduced once; None without a basis."""
        tokens = self.result.sequence.tokens
        return PackedGroups(tokens, self.layout, self.basis) if self.basis else None


@dataclass(frozen=True)
class OutputTopic:
    """One row of the table."""

    # Below the node's name; {} stands for a camera or another source, in APART for a kind.
    name: str
    type: str  # such as sensor_msgs/msg/Image
    what: str  # what a message holds, for the docs
    # The message's fields for a frame and a source's name; None if this frame has none.
    # A row without it is not sent with frames.
    encode: Callable[[Outgoing, str], Fields | None] | None = None
    when: When = "frame"
    feature: str = ""  # the feature of `embed` that writes it; empty: it is always written

    @property
    def latched(self) -> bool:
        """Sent once and kept for late subscribers; all others are volatile. All are reliable."""
        return self.when in ("configure", "layout")


class SentTopic(NamedTuple):
    """A topic of one layout."""

    row: OutputTopic  # of the table
    # Name of its camera or other source; of APART the kind of the tokens; empty if it has none.
    source: str

    @property
    def name(self) -> str:
        """The topic below the node's name."""
        return self.row.name.format(self.source)


def image_fields(header: Fields, image: TensorFields) -> Fields:
    """Return the fields of a sensor_msgs/Image."""
    return {"header": header, **image._asdict()}


def _header(outgoing: Outgoing) -> Fields:
    return header_fields(outgoing.result.stamp_ns, outgoing.result.frame_id)


def camera_header(camera: CameraResult) -> Fields:
    """Return the header of a camera's image: every message of the camera has it."""
    return header_fields(camera.image.stamp_ns, camera.image.frame_id)


def _camera_tensor(outgoing: Outgoing, name: str, rows: np.ndarray) -> Fields:
    header = camera_header(outgoing.result.cameras[name])
    return image_fields(header, encode_tensor(rows, outgoing.layout.dtype))


def _cls_token(outgoing: Outgoing, name: str) -> Fields | None:
    camera = outgoing.result.cameras.get(name)
    return _camera_tensor(outgoing, name, camera.cls_token[None]) if camera else None


def _patch_features(outgoing: Outgoing, name: str) -> Fields | None:
    camera = outgoing.result.cameras.get(name)
    if camera and outgoing.packed:
        group = outgoing.layout.group(f"{name}/{REDUCED_KIND}")
        return image_fields(camera_header(camera), encode_rows(outgoing.packed.rows(group)))
    return _camera_tensor(outgoing, name, camera.patch_tokens) if camera else None


def _classification(outgoing: Outgoing, name: str) -> Fields | None:
    camera = outgoing.result.cameras.get(name)
    if camera is None:
        return None
    results = [{"class_id": c.class_id, "score": c.score} for c in camera.classes]
    return {"header": camera_header(camera), "results": results}


def _dense(outgoing: Outgoing, name: str) -> Fields | None:
    camera = outgoing.result.cameras.get(name)
    if camera is None or outgoing.dense is None:
        return None
    values = outgoing.dense(camera)
    is_depth = values.dtype == np.float32
    image = encode_tensor(values) if is_depth else encode_labels(values)
    return image_fields(camera_header(camera), image)


def _tokens(outgoing: Outgoing, _: str) -> Fields:
    if outgoing.packed:
        return image_fields(_header(outgoing), encode_bytes(outgoing.packed.sequence()))
    rows = encode_tensor(outgoing.result.sequence.tokens, outgoing.layout.dtype)
    return image_fields(_header(outgoing), rows)


def _token_mask(outgoing: Outgoing, _: str) -> Fields:
    return image_fields(_header(outgoing), encode_mask(outgoing.result.sequence.mask))


def _history_stamps(outgoing: Outgoing, _: str) -> Fields:
    return image_fields(_header(outgoing), encode_stamps(outgoing.result.history_stamps_ns))


def _apart(outgoing: Outgoing, kind: str) -> Fields:
    group = next(group for group in outgoing.result.apart if group.kind == kind)
    rows = encode_tensor(group.tokens, exact_dtype(outgoing.layout.dtype))
    return image_fields(_header(outgoing), rows)


def _embedding(outgoing: Outgoing, _: str) -> Fields:
    row = encode_tensor(outgoing.result.embedding[None], exact_dtype(outgoing.layout.dtype))
    return image_fields(_header(outgoing), row)


def _sample(outgoing: Outgoing, name: str) -> Fields | None:
    value = outgoing.result.samples[name].value
    if value is None:
        return None
    source = next(s for s in outgoing.layout.samples if s.name == name)
    return sample_fields(source, value)


CAMERA = (
    OutputTopic("{}/cls_token", IMAGE_TYPE, "1 × D", _cls_token, feature="cls"),
    OutputTopic(
        "{}/patch_features",
        IMAGE_TYPE,
        "rows·columns × D, row-major over the grid (row 0 is the top of the image)",
        _patch_features,
        feature="patch",
    ),
)
CLASSIFICATION = OutputTopic(
    "{}/classification",
    CLASSES_TYPE,
    "best `top_k` classes; of a camera with a head",
    _classification,
)
# With a reference alone, and not in the layout: they change no meaning of a token.
MONITOR = tuple(OutputTopic(row.name, row.type, row.what, row.encode) for row in MONITOR_ROWS)
TOKENS = OutputTopic(
    "tokens",
    IMAGE_TYPE,
    "N × D: every group of the layout, one after another; N never changes while the node is "
    "configured",
    _tokens,
    feature="tokens",
)
APART = OutputTopic(
    "{}",
    IMAGE_TYPE,
    "T × W: tokens of another width than D, such as the policy's state for its action expert; "
    "zeros if missing; the layout's `apart` names them",
    _apart,
    feature="tokens",
)
TOKEN_MASK = OutputTopic("token_mask", IMAGE_TYPE, "1 × N mono8: 255 valid, 0 missing", _token_mask)
HISTORY_STAMPS = OutputTopic(
    "history_stamps",
    IMAGE_TYPE,
    "1 × K 32SC2: the true stamp of each step's frame, seconds and nanoseconds, oldest first; 0, 0 "
    "where there is none. Only with `history.frames` of 2 or more",
    _history_stamps,
    feature="tokens",
)
EMBEDDING = OutputTopic("embedding", IMAGE_TYPE, "1 × L", _embedding, feature="embedding")
VIEWS = (
    OutputTopic("{}/feature_view", IMAGE_TYPE, "rgb8: patch tokens as colours", when="view"),
    OutputTopic(
        "{}/attention_view", IMAGE_TYPE, "rgb8: what the CLS token attends to", when="view"
    ),
)
DEPTH = OutputTopic(
    "{}/depth",
    IMAGE_TYPE,
    "H × W of the camera's image; what a value means is in the layout's `dense`",
    _dense,
    when="dense",
    feature="dense",
)
SEGMENTATION = OutputTopic(
    "{}/segmentation",
    IMAGE_TYPE,
    "H × W of the camera's image, mono8 or mono16: the index of each pixel's class",
    _dense,
    when="dense",
    feature="dense",
)
SEGMENTATION_INFO = OutputTopic(
    "{}/segmentation_info",
    INFO_TYPE,
    "which model made it, and where its labels are",
    when="configure",
    feature="dense",
)
BASIS = OutputTopic(
    "basis",
    IMAGE_TYPE,
    "(K + 1) × D: mean and directions of the coefficients that patch tokens are sent as; with "
    "`tokens.basis`",
    when="configure",
)
LAYOUT = OutputTopic("layout", TEXT_TYPE, "JSON: how to read all others", when="layout")


def sample_topic(kind: str, type_name: str) -> OutputTopic:
    """Return the row of a kind of source that is not a camera."""
    return OutputTopic(
        f"{{}}/{kind}_at_image", type_name, f"the {kind} used, at the image's stamp", _sample
    )


POSE = sample_topic("pose", POSE_TYPE)
STATE = sample_topic("state", STATE_TYPE)


def topics_of(layout: Layout, monitored: Collection[str] = ()) -> list[SentTopic]:
    """Return every topic of a node with this layout, in the order in which a frame is sent.

    ``monitored`` are the cameras of its reference.
    """
    sent: list[SentTopic] = []
    for camera in layout.cameras:
        rows = (*CAMERA, CLASSIFICATION) if camera.labels else CAMERA
        sent += [SentTopic(row, camera.name) for row in rows]
    sent += [SentTopic(row, name) for name in monitored for row in MONITOR]
    sent += [SentTopic(sample_topic(s.kind, s.type), s.name) for s in layout.samples]
    sent += [SentTopic(APART, each.kind) for each in layout.apart]
    # Topics can arrive in any order; the tokens are sent last, when everything else is on its way.
    stamps = (HISTORY_STAMPS,) if layout.history else ()
    sent += [SentTopic(row, "") for row in (EMBEDDING, *stamps, TOKEN_MASK, TOKENS)]
    later = list(VIEWS)
    if layout.dense:
        later += [DEPTH] if layout.dense.kind == "depth" else [SEGMENTATION, SEGMENTATION_INFO]
    sent += [SentTopic(row, camera.name) for row in later for camera in layout.cameras]
    sent += [SentTopic(BASIS, "")] if layout.basis else []
    return [*sent, SentTopic(LAYOUT, "")]


def latched_fields(
    row: OutputTopic, layout: Layout, layout_topic: str, basis: Basis | None = None
) -> Fields:
    """Return the fields of a latched message.

    ``layout_topic`` is the full name of ``~/layout``, and ``basis`` is the layout's.
    """
    if row is BASIS and basis is not None:
        return image_fields(header_fields(0, ""), encode_tensor(basis.to_rows()))
    if row is LAYOUT:
        return {"data": layout.to_json()}
    return {
        "header": header_fields(0, ""),
        "method": layout.model,
        "database_location": f"{layout_topic}#dense.labels",
    }
