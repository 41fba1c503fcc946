"""The wire format: tensors <-> sensor_msgs/Image fields, and the JSON layout that explains them.

numpy only, no ROS: a policy node imports this module alone. ``docs/wire_format.md`` says the same for other
languages. A tensor of T tokens × D channels is an Image of ``height`` T, ``width`` D, ``encoding`` 32FC1 or
16FC1, row-major, little-endian, ``step`` = D · itemsize.
"""

import array
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

SCHEMA_VERSION = 1
_DTYPES = {"32FC1": np.dtype("<f4"), "16FC1": np.dtype("<f2"), "mono8": np.dtype("u1"),
           "mono16": np.dtype("<u2")}
_ENCODINGS = {"float32": "32FC1", "float16": "16FC1"}


class TensorFields(NamedTuple):
    """The fields of a sensor_msgs/Image that carry one tensor; the header is the camera image's own."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: array.array


def encode_tensor(tensor: np.ndarray, dtype: str = "float32") -> TensorFields:
    """Fields for ``tensor`` (T, D), sent as ``dtype`` float32 or float16. Raises ValueError for what does not fit.

    ``data`` is an ``array.array('B')``: rclpy takes it as it is (0.03 ms for 0.4 MB), where a numpy array
    would be converted element by element (22 ms).
    """
    if dtype not in _ENCODINGS:
        raise ValueError(f"dtype is {dtype!r}; accepted: {', '.join(_ENCODINGS)}")
    if tensor.ndim != 2:
        raise ValueError(f"a tensor on the wire is (tokens, channels), not of shape {tensor.shape}")
    encoding = _ENCODINGS[dtype]
    try:
        with np.errstate(over="raise"):
            rows = np.ascontiguousarray(tensor, dtype=_DTYPES[encoding])
    except FloatingPointError as error:
        raise ValueError(f"the tensor holds {np.abs(tensor).max():g}; accepted: up to 65504 in float16") from error
    return TensorFields(rows.shape[0], rows.shape[1], encoding, 0, rows.shape[1] * rows.itemsize,
                        array.array("B", rows.tobytes()))


def encode_mask(mask: np.ndarray) -> TensorFields:
    """Fields for a token mask (N,) bool as a 1 × N mono8 image: 255 is valid, 0 missing."""
    row = np.where(mask, 255, 0).astype(np.uint8)
    return TensorFields(1, len(row), "mono8", 0, len(row), array.array("B", row.tobytes()))


def encode_labels(labels: np.ndarray) -> TensorFields:
    """Fields for a label image (H, W) uint8 or uint16, as mono8 or mono16. Raises ValueError for another dtype."""
    encoding = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}.get(labels.dtype)
    if encoding is None or labels.ndim != 2:
        raise ValueError(f"labels are {labels.dtype} {labels.shape}; accepted: uint8 or uint16 (H, W)")
    rows = np.ascontiguousarray(labels, dtype=_DTYPES[encoding])
    return TensorFields(*rows.shape, encoding, 0, rows.shape[1] * rows.itemsize, array.array("B", rows.tobytes()))


def decode_tensor(message: Any) -> np.ndarray:
    """The (height, width) array of an Image message, without a copy where the machine is little-endian.

    Takes any object with an Image's fields (rclpy, rosbags, CycloneDDS). float32, float16, uint8 or uint16.
    Raises ValueError when encoding, step or the amount of data disagree.
    """
    dtype = _DTYPES.get(message.encoding)
    if dtype is None:
        raise ValueError(f"encoding is {message.encoding!r}; accepted: {', '.join(_DTYPES)}")
    if message.is_bigendian:
        dtype = dtype.newbyteorder(">")
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < width * dtype.itemsize or step % dtype.itemsize or len(message.data) < height * step:
        raise ValueError(f"{height} x {width} of {message.encoding} with step {step} does not fit "
                         f"{len(message.data)} bytes of data")
    values = np.frombuffer(message.data, dtype, count=height * step // dtype.itemsize)
    return values.reshape(height, step // dtype.itemsize)[:, :width]


def mask_of(tokens: np.ndarray) -> np.ndarray:
    """The mask (N,) bool of a token sequence (N, D): an all-zero row is a missing token."""
    return np.any(tokens != 0, axis=1)


@dataclass(frozen=True)
class LayoutGroup:
    """Rows ``start`` to ``stop`` (exclusive) of ``~/tokens``. ``grid`` is (rows, columns) of patch tokens."""

    name: str
    kind: str
    source: str
    start: int
    stop: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class LayoutCamera:
    """How source pixels became network pixels: ``network_px = source_px * scale + offset`` per axis.

    Sizes are (height, width) in pixels, ``scale`` and ``offset_px`` (y, x); source size, scale and offset
    are None until the first image has come.
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
    """What a pixel of each camera's ``depth`` or ``segmentation`` (``kind``) means, and whose blocks' tokens it took.

    ``quantity`` is ``metric_depth`` (``unit`` m), ``relative_inverse_depth`` (larger is nearer; no unit, and scale and
    shift are unknown and change from image to image), ``depth`` where the checkpoint does not say which, or ``class``:
    a pixel is then an index into ``labels``, or ``no_label`` where the network saw nothing. Depth is NaN there.
    """

    kind: str
    quantity: str
    unit: str
    blocks: tuple[int, ...]
    labels: tuple[str, ...] = ()
    no_label: int = 0


@dataclass(frozen=True)
class Layout:
    """What ``~/layout`` says: how to read every topic of the node, and what really runs.

    ``dense`` is None, and not in the JSON, while no depth or segmentation is switched on.
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
    schema_version: int = SCHEMA_VERSION
    dense: LayoutDense | None = None

    @property
    def token_count(self) -> int:
        """N, the number of rows of ``~/tokens``; it never changes while the node is configured."""
        return self.groups[-1].stop if self.groups else 0

    @property
    def layout_id(self) -> str:
        """A digest of everything above: two layouts with one id are the same."""
        return hashlib.sha256(json.dumps(self._fields(), sort_keys=True).encode()).hexdigest()[:16]

    def group(self, name: str) -> LayoutGroup:
        """The group called ``name``, e.g. ``wrist/patch``. Raises KeyError with the names there are."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"no token group {name!r}; there are: {', '.join(g.name for g in self.groups)}")

    def split(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Views of ``tokens`` (N, D) by group name, each (T, D)."""
        if len(tokens) != self.token_count:
            raise ValueError(f"tokens has {len(tokens)} rows, the layout {self.token_count}")
        return {g.name: tokens[g.start:g.stop] for g in self.groups}

    def to_json(self) -> str:
        """The text of ``~/layout``."""
        return json.dumps({"layout_id": self.layout_id, **self._fields()})

    def _fields(self) -> dict[str, Any]:
        # Without a dense head nothing of it: readers that do not know the key read the layout as before.
        return {name: value for name, value in asdict(self).items() if name != "dense" or value is not None}

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """The layout of a ``~/layout`` message. Raises ValueError for another schema version."""
        fields = json.loads(text)
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"layout schema_version is {fields.get('schema_version')!r}; accepted: {SCHEMA_VERSION}")
        fields.pop("layout_id", None)
        fields["groups"] = tuple(LayoutGroup(**_tuples(g)) for g in fields["groups"])
        fields["cameras"] = tuple(LayoutCamera(**_tuples(c)) for c in fields["cameras"])
        if fields.get("dense") is not None:
            fields["dense"] = LayoutDense(**_tuples(fields["dense"]))
        return cls(**fields)


def _tuples(fields: dict) -> dict:
    """JSON has lists where the layout has tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
