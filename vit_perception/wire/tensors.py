"""The wire format of tensors: arrays to fields of a sensor_msgs/Image and back.

A tensor of T tokens × D channels is an Image of ``height`` T, ``width`` D, ``encoding`` 32FC1 or
16FC1, row-major, little-endian, ``step`` = D · itemsize. In eight bits it is 8UC1, and ``step`` is
D + 4: the token's scale stands behind its channels (``quantised.py``).
"""

import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.quantised import SCALE, quantise, restore
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput

_DTYPES: dict[str, np.dtype[Any]] = {
    "32FC1": np.dtype("<f4"),
    "16FC1": np.dtype("<f2"),
    "8UC1": np.dtype("u1"),
    "mono8": np.dtype("u1"),
    "mono16": np.dtype("<u2"),
}
# Numbers of recordings are written so, and are no tokens: ``decode_tensor`` does not take them.
_WRITTEN = {**_DTYPES, "64FC1": np.dtype("<f8"), "32SC2": np.dtype("<i4")}
# The Image encoding of each dtype that tokens may have.
ENCODINGS = {"float32": "32FC1", "float16": "16FC1", "int8": "8UC1"}


def exact_dtype(dtype: str) -> str:
    """Return what is sent as with tokens of ``dtype``, if it must not be rounded to 255 steps.

    One scale for a whole embedding would round its pose tokens by the largest number of its CLS
    tokens; and it is small.
    """
    return "float32" if dtype == "int8" else dtype


class TensorFields(NamedTuple):
    """The fields of a sensor_msgs/Image that carry one tensor, without the header."""

    height: int  # number of rows, such as tokens
    width: int  # number of columns, such as channels
    encoding: str  # 32FC1, 16FC1, 32SC2, 8UC1, mono8, mono16 or rgb8
    is_bigendian: int  # always 0
    step: int  # bytes of one row; of 8UC1 four more than the width
    data: "array.array[int]"  # height * step bytes, of type code B


def encode_tensor(tensor: np.ndarray, dtype: str = "float32") -> TensorFields:
    """Return the fields for ``tensor`` (T, D), sent as ``dtype`` float32, float16 or int8.

    ``data`` is an ``array.array('B')``: rclpy takes it as it is (0.03 ms for 0.4 MB). It would
    convert a numpy array element by element (22 ms).

    Raises:
        InvalidValue: another dtype or shape, or a number that float16 or int8 does not hold.
    """
    if dtype not in ENCODINGS:
        raise InvalidValue(f"dtype is {dtype!r}; accepted: {', '.join(ENCODINGS)}")
    if tensor.ndim != 2:
        raise InvalidValue(
            f"a tensor on the wire is (tokens, channels), not of shape {tensor.shape}"
        )
    encoding = ENCODINGS[dtype]
    if dtype == "int8":
        return encode_rows(quantise(tensor))
    try:
        with np.errstate(over="raise"):
            return _image_fields(tensor, encoding, channels=1)
    except FloatingPointError as error:
        raise InvalidValue(
            f"the tensor holds {np.abs(tensor).max():g}; accepted: up to 65504 in float16"
        ) from error


def encode_bytes(content: np.ndarray) -> TensorFields:
    """Return the fields for ``content`` (n,) uint8: one row of n bytes, 8UC1 without a scale."""
    return _image_fields(content[None], "8UC1", channels=1)


def encode_rows(rows: np.ndarray) -> TensorFields:
    """Return the fields for ``rows`` (T, D + 4) uint8 of :func:`quantise`."""
    fields = _image_fields(rows, "8UC1", channels=1)
    return fields._replace(width=rows.shape[1] - SCALE.itemsize)


def encode_numbers(numbers: np.ndarray) -> TensorFields:
    """Return the fields for ``numbers`` (n,) of a recording: a 1 × n image of 64FC1."""
    return _image_fields(numbers[None], "64FC1", channels=1)


def encode_mask(mask: np.ndarray) -> TensorFields:
    """Return the fields for a token mask (N,) bool: a 1 × N mono8 image, 255 valid, 0 missing."""
    return _image_fields(np.where(mask, 255, 0)[None], "mono8", channels=1)


def encode_stamps(stamps_ns: Sequence[int]) -> TensorFields:
    """Return the fields for ``stamps_ns``: a 1 × K image of 32SC2, seconds and nanoseconds.

    A float64 does not hold a stamp to the nanosecond, and no standard message is a list of times
    with a header.
    """
    pairs = [part for stamp_ns in stamps_ns for part in divmod(stamp_ns, NANOSECONDS_PER_SECOND)]
    return _image_fields(np.array([pairs], np.int32), "32SC2", channels=2)


def decode_stamps(message: Any) -> np.ndarray:
    """Return the stamps in an Image of :func:`encode_stamps` in ns, (K,) int64; 0 is no frame.

    Raises:
        BadInput: ``encoding`` or ``size``: another encoding, or data that do not fit.
    """
    if message.encoding != "32SC2":
        raise BadInput("encoding", f"encoding is {message.encoding!r}; accepted: 32SC2")
    width = int(message.width)
    if int(message.height) != 1 or width < 1 or len(message.data) < 8 * width:
        raise BadInput(
            "size",
            f"{int(message.height)} x {width} of 32SC2 does not fit {len(message.data)} bytes of "
            "data; accepted: one row, and 8 bytes for each of its stamps",
        )
    dtype = np.dtype(">i4" if message.is_bigendian else "<i4")
    pairs = np.frombuffer(message.data, dtype, count=2 * width).reshape(width, 2).astype(np.int64)
    stamps_ns: np.ndarray = pairs[:, 0] * NANOSECONDS_PER_SECOND + pairs[:, 1]
    return stamps_ns


def encode_labels(labels: np.ndarray) -> TensorFields:
    """Return the fields for a label image (H, W) uint8 or uint16, as mono8 or mono16.

    Raises:
        InvalidValue: another dtype or shape.
    """
    encoding = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}.get(labels.dtype)
    if encoding is None or labels.ndim != 2:
        raise InvalidValue(
            f"labels are {labels.dtype} {labels.shape}; accepted: uint8 or uint16 (H, W)"
        )
    return _image_fields(labels, encoding, channels=1)


def encode_view(rgb: np.ndarray) -> TensorFields:
    """Return the fields for an image (H, W, 3) uint8 RGB, as rgb8."""
    height, width = rgb.shape[:2]
    return _image_fields(rgb.reshape(height, 3 * width), "rgb8", channels=3)


def _image_fields(rows: np.ndarray, encoding: str, channels: int) -> TensorFields:
    """Return the fields for ``rows`` (H, W · channels). Contiguous rows of the encoding's dtype are
    copied once; others are converted first.
    """
    dtype = _WRITTEN.get(encoding, np.dtype("u1"))
    height, width = rows.shape
    data = array.array("B")
    # Half the time of an array of zeros that is then written over.
    data.frombytes(np.ascontiguousarray(rows, dtype).reshape(-1).view(np.uint8).data)
    return TensorFields(
        height=height,
        width=width // channels,
        encoding=encoding,
        is_bigendian=0,
        step=width * dtype.itemsize,
        data=data,
    )


def decode_tensor(message: Any) -> np.ndarray:
    """Return an Image message as an array (height, width): float32, float16, uint8 or uint16.

    ``message`` is any object with an Image's fields (rclpy, rosbags, CycloneDDS). The array is a
    view of its data, but of 8UC1, whose float32 tokens are computed.

    Raises:
        BadInput: ``encoding``, ``size`` or ``scale``: another encoding, a step or data that do not
            fit, or a scale that is no number from 0. It is a ValueError.
    """
    dtype = _DTYPES.get(message.encoding)
    if dtype is None:
        raise BadInput(
            "encoding", f"encoding is {message.encoding!r}; accepted: {', '.join(_DTYPES)}"
        )
    if message.is_bigendian:
        dtype = dtype.newbyteorder(">")
    height = int(message.height)
    width = int(message.width)
    step = int(message.step)
    with_scale = message.encoding == "8UC1"
    row_bytes = width * dtype.itemsize + with_scale * SCALE.itemsize
    if with_scale and height == 1 and step == width:
        raise BadInput(
            "basis",
            "the tokens are coefficients of a basis; accepted: wire.decode_tokens with the layout "
            "and the basis of ~/basis",
        )
    if step < row_bytes or step % dtype.itemsize or len(message.data) < height * step:
        raise BadInput(
            "size",
            f"{height} x {width} of {message.encoding} with step {step} does not fit "
            f"{len(message.data)} bytes of data; accepted: a step of {row_bytes}, or "
            f"a larger multiple of {dtype.itemsize}, and height times step bytes",
        )
    values = np.frombuffer(message.data, dtype, count=height * step // dtype.itemsize)
    rows: np.ndarray = values.reshape(height, step // dtype.itemsize)
    if with_scale:
        return restore(rows[:, :row_bytes], bool(message.is_bigendian))
    return rows[:, :width]


def mask_of(tokens: np.ndarray) -> np.ndarray:
    """Return the mask (N,) bool of a token sequence (N, D): a token is missing if its row is 0."""
    mask: np.ndarray = np.any(tokens != 0, axis=1)
    return mask
