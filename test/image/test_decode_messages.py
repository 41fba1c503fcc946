"""The same picture through rclpy's and rosbags' own message classes, and through cv_bridge."""

import array
import importlib.util
import sys

import numpy as np
import pytest

from test.image.image_messages import header, image
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.encodings import ACCEPTED_ENCODINGS
from vit_perception.wire.records import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def ros_message(kind: str, **fields):
    messages = pytest.importorskip(
        "sensor_msgs.msg", reason="rclpy's message classes are not installed"
    )
    message = getattr(messages, kind)(**fields)
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 345
    message.header.frame_id = "wrist_optical"
    return message


def rosbags_header(typestore):
    types = typestore.types
    return types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=12, nanosec=345), frame_id="wrist_optical"
    )


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_rclpy_and_rosbags_messages_decode_alike(encoding):
    typesys = pytest.importorskip("rosbags.typesys", reason="rosbags is not installed")
    typestore = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    fields = {"height": 6, "width": 8, "encoding": encoding, "is_bigendian": 0, "step": 24}
    from_ros = ros_message("Image", data=array.array("B", PIXELS.tobytes()), **fields)
    from_bag = typestore.types["sensor_msgs/msg/Image"](
        header=rosbags_header(typestore), data=PIXELS.reshape(-1), **fields
    )
    expected = PIXELS if encoding == "rgb8" else PIXELS[..., ::-1]
    for message in (from_ros, from_bag):
        decoded = decode_image(message)
        np.testing.assert_array_equal(decoded.pixels, expected)
        assert np.shares_memory(decoded.pixels, np.frombuffer(message.data, np.uint8))
        assert (decoded.stamp_ns, decoded.frame_id) == (12_000_000_345, "wrist_optical")


def test_rclpy_and_rosbags_compressed_messages_decode_alike():
    import cv2

    typesys = pytest.importorskip("rosbags.typesys", reason="rosbags is not installed")
    typestore = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    data = cv2.imencode(".png", PIXELS[..., ::-1])[1]
    from_ros = ros_message("CompressedImage", format="png", data=array.array("B", data.tobytes()))
    from_bag = typestore.types["sensor_msgs/msg/CompressedImage"](
        header=rosbags_header(typestore), format="png", data=data.reshape(-1)
    )
    for message in (from_ros, from_bag):
        np.testing.assert_array_equal(decode_compressed(message).pixels, PIXELS)


@pytest.mark.skipif(
    importlib.util.find_spec("cv_bridge") is None,
    reason="cv_bridge is not installed: it is not among the Python wheels of ROS 2",
)
@pytest.mark.parametrize(
    "encoding", [e for e in ACCEPTED_ENCODINGS if not e.startswith(("8UC", "nv", "bayer"))]
)
def test_cv_bridge_gives_the_same_picture(encoding):
    from cv_bridge import CvBridge

    samples = {"rgba": 4, "bgra": 4, "mono": 1, "yuv4": 2, "uyvy": 2, "yuyv": 2}.get(
        encoding[:4], 3
    )
    rows = np.random.default_rng(1).integers(
        0, 256, (6, 8 * samples * (1 + encoding.endswith("16"))), np.uint8
    )
    message = ros_message(
        "Image",
        height=6,
        width=8,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )
    theirs = CvBridge().imgmsg_to_cv2(message, "rgb8").astype(int)
    # 16 bits: cv_bridge rounds value / 257, the high byte is value // 256.
    assert np.abs(decode_image(message).pixels - theirs).max() <= (
        1 if encoding.endswith("16") else 0
    )


def test_an_encoding_beyond_the_table_goes_through_cv_bridge(monkeypatch, tmp_path):
    """Where cv_bridge is not installed, a module of that name with its one method stands in for the
    import.
    """
    (tmp_path / "cv_bridge.py").write_text(
        "import numpy\n"
        "class CvBridge:\n"
        "    def imgmsg_to_cv2(self, message, desired_encoding):\n"
        "        if message.encoding != 'camera_special':\n"
        "            raise RuntimeError('unrecognized image encoding')\n"
        "        assert desired_encoding == 'rgb8'\n"
        "        return numpy.full((message.height, message.width, 3), 9, numpy.uint8)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    decoded = decode_image(image("camera_special", (2, 4), np.zeros((2, 4))))
    assert decoded.pixels.tolist() == np.full((2, 4, 3), 9).tolist()
    with pytest.raises(BadInput, match="unrecognized image encoding") as caught:
        decode_image(image("camera_other", (2, 4), np.zeros((2, 4))))
    assert caught.value.reason == "encoding"
    # Not through monkeypatch, which would put the stand-in back.
    sys.modules.pop("cv_bridge", None)


@pytest.mark.parametrize(
    "code, why",
    [
        (
            "raise ImportError('numpy.core.multiarray failed to import')",
            "does not load: numpy.core.multiarray failed",
        ),
        ("raise AttributeError('_ARRAY_API not found')", "does not load: _ARRAY_API not found"),
        ("import no_such_thing", "does not load: No module named 'no_such_thing'"),
    ],
)
def test_a_cv_bridge_of_another_numpy_is_not_called_missing(monkeypatch, tmp_path, code, why):
    (tmp_path / "cv_bridge.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    with pytest.raises(BadInput, match=f"what cv_bridge converts, which {why}") as caught:
        decode_image(image("camera_special", (2, 4), np.zeros((2, 4))))
    assert caught.value.reason == "encoding"


def test_a_header_is_read_by_its_fields_alone():
    message = image("mono8", (1, 1), [[5]])
    message.header = header(7, 8, "base")
    assert (decode_image(message).stamp_ns, decode_image(message).frame_id) == (
        7_000_000_008,
        "base",
    )
