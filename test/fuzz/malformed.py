"""Strategies for messages that are wrong: a good one, then one to three changes that a broken
sender makes.
"""

import json
from types import SimpleNamespace

import cv2
import numpy as np
from hypothesis import strategies as st

from vit_perception.image.encodings import ACCEPTED_ENCODINGS
from vit_perception.wire.layout import (
    Layout,
    LayoutCamera,
    LayoutGroup,
    LayoutHistory,
    LayoutState,
)
from vit_perception.wire.layout_history import with_history
from vit_perception.wire.tensors import encode_tensor

MAX_U32, MAX_I32 = 2**32 - 1, 2**31 - 1
ODD_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "RGB8",
            "rgb8 ",
            "bgr",
            "8UC",
            "8UC2",
            "16UC1",
            "32FC1",
            "64FC4",
            "bayer_rggb12",
            "nv42",
            "h264",
            "\0",
            "é" * 40,
        ]
    ),
)
STAMPS = st.one_of(
    st.tuples(
        st.integers(-3, 12), st.sampled_from([0, 1, 345, 999_999_999, 1_000_000_000, MAX_U32])
    ),
    st.sampled_from([(0, 0), (MAX_I32, MAX_U32), (-MAX_I32 - 1, 0)]),
)
NOISE = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()


def header(stamp: tuple[int, int] = (12, 345), frame_id: str = "camera") -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp[0], nanosec=stamp[1]), frame_id=frame_id)


def one_after_another(messages: list) -> list:
    """``messages`` with stamps a second apart, but for those whose stamp is what is wrong."""
    for index, message in enumerate(messages):
        if (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345):
            message.header.stamp.sec += index
    return messages


def row_bytes_of(encoding: str, width: int) -> int:
    samples = {
        "rgba": 4,
        "bgra": 4,
        "8UC4": 4,
        "rgb8": 3,
        "rgb1": 3,
        "bgr8": 3,
        "bgr1": 3,
        "8UC3": 3,
        "yuv4": 2,
        "uyvy": 2,
        "yuyv": 2,
    }.get(encoding[:4], 1)
    return width * samples * (2 if encoding.endswith("16") else 1)


def good_image(encoding: str, height: int, width: int) -> dict:
    rows = {"nv12": (3 * height + 1) // 2, "nv21": (3 * height + 1) // 2, "nv24": 3 * height}.get(
        encoding, height
    )
    step = row_bytes_of(encoding, width)
    return {
        "header": header(),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": step,
        "data": NOISE[: rows * step],
    }


# Each takes what a strategy drew and the fields so far, and changes them.
IMAGE_CHANGES = {
    "encoding": (
        st.one_of(st.sampled_from(ACCEPTED_ENCODINGS), ODD_TEXT),
        lambda f, v: f.update(encoding=v),
    ),
    "height": (
        st.sampled_from([0, 1, 2, 3, 47, 4000, MAX_I32, MAX_U32]),
        lambda f, v: f.update(height=v),
    ),
    "width": (
        st.sampled_from([0, 1, 2, 3, 65, 9000, MAX_I32, MAX_U32]),
        lambda f, v: f.update(width=v),
    ),
    "step": (
        st.sampled_from([-MAX_U32, -7, -1, 1, 5]),
        lambda f, v: f.update(step=max(0, f["step"] + v)),
    ),
    "huge step": (st.sampled_from([0, MAX_I32, MAX_U32]), lambda f, v: f.update(step=v)),
    "data": (st.floats(0, 1), lambda f, v: f.update(data=f["data"][: int(len(f["data"]) * v)])),
    "one byte": (st.sampled_from([1, 2]), lambda f, v: f.update(data=f["data"][:-v])),
    "endian": (st.sampled_from([1, 2, 255]), lambda f, v: f.update(is_bigendian=v)),
    "stamp": (STAMPS, lambda f, v: f.update(header=header(v))),
    "frame": (st.text(max_size=6), lambda f, v: f.update(header=header(frame_id=v))),
}


def changed(fields: dict, draw, changes: dict) -> SimpleNamespace:
    """``fields`` after one to three of ``changes``."""
    for name in draw(st.lists(st.sampled_from(list(changes)), min_size=1, max_size=3)):
        strategy, apply = changes[name]
        apply(fields, draw(strategy))
    return SimpleNamespace(**fields)


@st.composite
def images(draw) -> SimpleNamespace:
    """sensor_msgs/Image."""
    sizes = st.sampled_from([(6, 8), (3, 4), (48, 64), (1, 1), (5, 7), (1, 2000), (61, 3)])
    return changed(
        good_image(draw(st.sampled_from(ACCEPTED_ENCODINGS)), *draw(sizes)), draw, IMAGE_CHANGES
    )


PICTURE = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
FILES = [
    cv2.imencode(kind, picture, options)[1].tobytes()
    for kind, picture, options in (
        (".jpg", PICTURE, []),
        (".jpg", PICTURE[..., 0], []),
        (".png", PICTURE, []),
        (".png", PICTURE[..., 0], []),
        (".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".png", PICTURE.astype(np.uint16) * 257, []),
        (".png", PICTURE[:1], []),
        (".webp", PICTURE, []),
        (".bmp", PICTURE, []),
    )
]


def with_bytes(data: bytes, at: float, new: bytes) -> bytes:
    start = int(at * len(data))
    return data[:start] + new + data[start + len(new) :]


FORMATS = [
    "jpeg",
    "png",
    "",
    "rgb8; jpeg compressed bgr8",
    "bgr8; png compressed rgb8",
    "mono16; png compressed ",
    "bayer_rggb8; png compressed ",
    "16UC1; compressedDepth png",
    "16UC1; png compressed ",
    "; ;",
    "h264",
]
FILE_CHANGES = {
    "format": (st.one_of(st.sampled_from(FORMATS), ODD_TEXT), lambda f, v: f.update(format=v)),
    "cut": (st.floats(0, 1), lambda f, v: f.update(data=f["data"][: int(len(f["data"]) * v)])),
    "cut in front": (st.integers(0, 40), lambda f, v: f.update(data=f["data"][v:])),
    "bytes": (
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        lambda f, v: f.update(data=with_bytes(f["data"], *v)),
    ),
    "header": (
        st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=2)),
        lambda f, v: f.update(data=f["data"][: v[0]] + v[1] + f["data"][v[0] + len(v[1]) :]),
    ),
    "doubled": (
        st.floats(0, 1),
        lambda f, v: f.update(data=f["data"][: int(len(f["data"]) * v)] + f["data"]),
    ),
    "garbage": (st.binary(max_size=30), lambda f, v: f.update(data=v)),
    "stamp": (STAMPS, lambda f, v: f.update(header=header(v))),
}


@st.composite
def compressed_images(draw) -> SimpleNamespace:
    """sensor_msgs/CompressedImage."""
    fields = {
        "header": header(),
        "format": draw(st.sampled_from(FORMATS)),
        "data": draw(st.sampled_from(FILES)),
    }
    return changed(fields, draw, FILE_CHANGES)


NUMBERS = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, 1.0, float("nan"), float("inf"), 1e39, -1e300, 5e-324]),
)


def vector(names: str, values) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(names, values)))


POSE_CHANGES = {
    "position": (
        st.tuples(NUMBERS, NUMBERS, NUMBERS),
        lambda f, v: setattr(f["pose"], "position", vector("xyz", v)),
    ),
    "one number": (NUMBERS, lambda f, v: setattr(f["pose"].position, "y", v)),
    "quaternion": (
        st.tuples(*[NUMBERS] * 4),
        lambda f, v: setattr(f["pose"], "orientation", vector("xyzw", v)),
    ),
    "scaled": (
        st.sampled_from([0.0, -1.0, 1.0009, 0.99, 1e-200, 1e200]),
        lambda f, v: setattr(
            f["pose"], "orientation", vector("xyzw", (0.6 * v, 0.0, 0.8 * v, 0.0))
        ),
    ),
    "stamp": (STAMPS, lambda f, v: f.update(header=header(v, "base_link"))),
    "frame": (ODD_TEXT, lambda f, v: f.update(header=header(frame_id=v))),
}


@st.composite
def poses(draw) -> SimpleNamespace:
    """geometry_msgs/PoseStamped."""
    pose = SimpleNamespace(
        position=vector("xyz", (0.1, 0.2, 0.3)), orientation=vector("xyzw", (0.0, 0.0, 0.0, 1.0))
    )
    return changed({"header": header(frame_id="base_link"), "pose": pose}, draw, POSE_CHANGES)


JOINT_NAMES = st.one_of(
    st.lists(st.sampled_from(["shoulder", "elbow", "finger", "other", ""]), max_size=5),
    st.lists(st.text(max_size=3), max_size=3),
)
JOINT_CHANGES = {
    "names": (JOINT_NAMES, lambda f, v: f.update(name=v)),
    "position": (st.lists(NUMBERS, max_size=5), lambda f, v: f.update(position=v)),
    "velocity": (st.lists(NUMBERS, max_size=5), lambda f, v: f.update(velocity=v)),
    "one number": (
        st.tuples(st.integers(0, 2), NUMBERS),
        lambda f, v: f.update(
            position=[v[1] if i == v[0] else x for i, x in enumerate(f["position"])]
        ),
    ),
    "one less": (
        st.sampled_from(["name", "position", "velocity"]),
        lambda f, v: f.update({v: f[v][:-1]}),
    ),
    "order": (
        st.permutations(range(3)),
        lambda f, v: f.update(name=[f["name"][i] for i in v if i < len(f["name"])]),
    ),
    "stamp": (STAMPS, lambda f, v: f.update(header=header(v))),
    "frame": (ODD_TEXT, lambda f, v: f.update(header=header(frame_id=v))),
}


@st.composite
def joint_states(draw) -> SimpleNamespace:
    """sensor_msgs/JointState."""
    fields = {
        "header": header(),
        "name": ["shoulder", "elbow", "finger"],
        "position": [0.1, 0.2, 0.3],
        "velocity": [0.0, 1.0, -1.0],
        "effort": [],
    }
    return changed(fields, draw, JOINT_CHANGES)


LAYOUT = Layout(
    (
        LayoutGroup("wrist/cls", "cls", "wrist", 0, 1),
        LayoutGroup("wrist/patch", "patch", "wrist", 1, 5, (2, 2)),
        LayoutGroup("arm/pose", "pose", "arm", 5, 6),
        LayoutGroup("body/state", "state", "body", 6, 7),
    ),
    (
        LayoutCamera(
            "wrist", "camera", "crop", (28, 28), 14, (48, 64), (0.6, 0.6), (0.0, -3.0), ("cup",)
        ),
    ),
    8,
    "float32",
    "tiny",
    "ab",
    "cd",
    1,
    "torch",
    "float32",
    0.9999,
    "concat",
    states=(LayoutState("body", ("elbow", "finger"), ("position",)),),
)
LAYOUTS = (LAYOUT, with_history(LAYOUT, LayoutHistory.of(2, 0.1)))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-2, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def layout_texts(draw) -> str:
    """The data of a std_msgs/String on ``~/layout``."""
    fields = json.loads(draw(st.sampled_from(LAYOUTS)).to_json())
    for _ in range(draw(st.integers(1, 3))):
        nested = [
            part
            for key in ("groups", "cameras", "states")
            if isinstance(fields.get(key), list)
            for part in fields[key]
        ]
        nested += [fields["history"]] if isinstance(fields.get("history"), dict) else []
        where = draw(st.sampled_from([fields, *nested]))
        if not isinstance(where, dict):
            continue
        name = draw(
            st.one_of(
                st.sampled_from(sorted(where)) if where else st.text(max_size=3),
                st.text(max_size=5),
            )
        )
        if draw(st.booleans()):
            where.pop(name, None)
        else:
            where[name] = draw(JUNK)
    text = json.dumps(fields)
    cut = draw(st.sampled_from([1.0, 1.0, 1.0, 0.99, 0.5, 0.0]))
    return (
        draw(st.sampled_from(["", "", "", "", "[", "null", "[" * 20_000, "\0"]))
        + text[: int(cut * len(text))]
    )


TENSOR_ENCODINGS = st.one_of(
    st.sampled_from(["32FC1", "16FC1", "mono8", "64FC1", "32FC2"]), ODD_TEXT
)
TENSOR_CHANGES = {
    name: change
    for name, change in IMAGE_CHANGES.items()
    if name not in ("encoding", "stamp", "frame")
}
TENSOR_CHANGES["encoding"] = (TENSOR_ENCODINGS, lambda f, v: f.update(encoding=v))


@st.composite
def tensors(draw) -> SimpleNamespace:
    """A sensor_msgs/Image of one of the node's own topics."""
    fields = encode_tensor(
        np.ones((6, 8), np.float32), draw(st.sampled_from(["float32", "float16"]))
    )._asdict()
    return changed(fields | {"header": header()}, draw, TENSOR_CHANGES)
