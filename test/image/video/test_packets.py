"""Messages of video: what they name as codec, and what is refused before it is decoded."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from test.video_streams import Coded, encoded, ffmpeg_message, foxglove_message
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.files.errors import OperationFailed
from vit_perception.image.video import library
from vit_perception.image.video.decoder import VideoDecoder
from vit_perception.image.video.packets import MOST_PACKET_BYTES, packet_of
from vit_perception.pipeline.prepare import Preparation
from vit_perception.recordings.definitions import deserialised, typestore
from vit_perception.wire.records import BadInput

PACKET = Coded(3, True, b"\0\0\0\1\x65")


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [
        ("libx264", "h264"),
        ("h264_nvenc", "h264"),
        ("h264;yuv420p;bgr8;bgr8", "h264"),
        ("hevc;nv12;mono8;mono8", "hevc"),
        ("hevc_vaapi", "hevc"),
        ("libx265", "hevc"),
        ("libvpx-vp9", "vp9"),
        ("libsvtav1", "av1"),
        ("AV1", "av1"),
    ],
)
def test_the_codec_is_that_of_the_encoder(encoding, codec):
    packet = packet_of(ffmpeg_message(PACKET, encoding), origin="x")
    assert (packet.codec, packet.number, packet.is_key, packet.origin) == (codec, 3, True, "x")
    assert (packet.stamp_ns, packet.frame_id, packet.data) == (
        PACKET.stamp_ns,
        "camera",
        PACKET.data,
    )


def test_a_foxglove_message_has_no_count():
    packet = packet_of(foxglove_message(PACKET, "h265"))
    assert (packet.codec, packet.number, packet.is_key) == ("hevc", None, False)
    assert packet.stamp_ns == PACKET.stamp_ns and packet.frame_id == "camera"


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "reason", "text"),
    [
        (ffmpeg_message(PACKET, "mjpeg"), "encoding", "encoding is 'mjpeg'; accepted: h264, hevc"),
        (foxglove_message(PACKET, "vp8"), "encoding", "format is 'vp8'; accepted: h264, hevc"),
        (ffmpeg_message(PACKET, "x" * 10**6), "encoding", "accepted"),
        (ffmpeg_message(PACKET, "hevc;gray12le;mono16;16UC1"), "encoding", "the images were"),
        (ffmpeg_message(PACKET, "h264;nv12;bayer_rggb8;bayer_rggb8"), "encoding", "bayer_rggb8"),
        (ffmpeg_message(PACKET._replace(data=b"")), "short_data", "0 bytes"),
        (ffmpeg_message(PACKET._replace(data=bytes(MOST_PACKET_BYTES + 1))), "size", "16777217"),
        (ffmpeg_message(PACKET._replace(index=-152)), "stamp", "header.stamp"),
        (changed(foxglove_message(PACKET), frame_id="\x1b[2J"), "frame", "frame_id"),
    ],
)
def test_what_is_no_packet_is_refused_by_name(message, reason, text):
    with pytest.raises(BadInput, match=text) as refused:
        packet_of(message)
    assert refused.value.reason == reason and len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "name", ["ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "foxglove_msgs/msg/CompressedVideo"]
)
def test_messages_of_bags_are_read_without_the_ros_package(name):
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=5, nanosec=7)
    if "ffmpeg" in name:
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
        given = {
            "header": header,
            "width": 160,
            "height": 96,
            "encoding": "h264",
            "pts": 9,
            "flags": 1,
        }
        given["is_bigendian"] = False
    else:
        given = {"timestamp": stamp, "frame_id": "camera", "format": "h264"}
    message = types[name](**given, data=np.frombuffer(PACKET.data, np.uint8))
    data = bytes(typestore().serialize_cdr(message, name))
    packet = packet_of(deserialised(data, name))
    assert (packet.stamp_ns, packet.data, packet.codec) == (5_000_000_007, PACKET.data, "h264")


CAMERA = CameraSettings("wrist", "/wrist/image_raw/ffmpeg", "ffmpeg")


def test_without_pyav_a_camera_with_video_is_refused_by_its_parameter(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    library.check_video_library([CameraSettings("raw", "/image_raw")])
    with pytest.raises(BadSetting, match="PyAV, which decodes video, is not installed here") as no:
        library.check_video_library([CAMERA])
    said = str(no.value)
    assert said.startswith("parameter 'cameras.wrist.transport' is 'ffmpeg'; accepted: raw or")
    assert "pip install av; or send the images as raw or compressed: ros2 run" in said
    with pytest.raises(OperationFailed, match="pip install av"):
        library.av_module()


def test_a_pyav_that_takes_no_notice_of_colours_is_refused(monkeypatch):
    wrong = SimpleNamespace(to_ndarray=lambda: np.full((48, 64, 3), (203, 92, 44), np.uint8))
    frame = SimpleNamespace(
        planes=[SimpleNamespace(buffer_size=1, update=bytes)] * 3,
        format=SimpleNamespace(name="yuv420p"),
        reformat=lambda **options: wrong,
    )
    old = ModuleType("av")
    old.__version__ = "11.0.0"
    old.VideoFrame = lambda *size: frame
    monkeypatch.setitem(sys.modules, "av", old)
    with pytest.raises(BadSetting, match="PyAV 11.0.0 does not convert colours as.*av>=12"):
        library.check_video_library([CAMERA])


def test_a_codec_that_this_build_of_ffmpeg_does_not_have_is_said(monkeypatch):
    monkeypatch.setitem(library._DECODERS, "av1", ("no_such_decoder",))
    (refused,) = VideoDecoder().take(packet_of(ffmpeg_message(encoded("h264")[0], "av1")))
    assert refused.reason == "encoding" and "no decoder for av1 (no_such_decoder)" in refused.text


def test_a_packet_alone_is_no_image():
    torch = importlib.util.find_spec("torch")
    if torch is None:
        pytest.skip("torch is not installed")
    from vit_perception.image.patch_geometry import ResizeRule
    from vit_perception.image.preprocess import Preprocessor

    prepared = Preparation((CAMERA,), [Preprocessor(ResizeRule((32, 32)))])(
        {"wrist": ffmpeg_message(PACKET)}, 0, {}, {}
    )
    assert prepared.refused["wrist"].reason == "encoding"
    assert "VideoDecoder, which takes all packets in order" in str(prepared.refused["wrist"])
