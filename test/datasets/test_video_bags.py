"""Bags with video: the same frames as of the decoded pictures, and each packet is accounted for."""

import logging
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from test.video_bags import recorded_picture, video_bag
from test.video_streams import BEGIN_NS, FRAME_NS, KEY_EVERY, SIZE_PX, encoded, ffmpeg_message
from vit_perception.config.offline_settings import settings_of_recording
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.encode_recording import Dropped, replay, replay_from
from vit_perception.datasets.labelled import labelled_frames
from vit_perception.image.calibration import calibration_images
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.image.video.decoder import VideoDecoder
from vit_perception.image.video.packets import packet_of
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.definitions import typestore
from vit_perception.recordings.reader import BagError, BagReader
from vit_perception.training.pictures import check_all, read_bag
from vit_perception.wire.records import FrameResult

TOPIC = "/wrist/image_raw/ffmpeg"
RAW = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def settings(tiny_checkpoint):
    return EncoderSettings(
        (
            CameraSettings("whole", TOPIC, "ffmpeg"),
            CameraSettings("middle", TOPIC, "ffmpeg", roi=(40, 20, 80, 60)),
        ),
        model=ModelSettings(str(tiny_checkpoint)),
        engine=EngineSettings("torch", "float32"),
    )


@pytest.fixture(scope="module")
def pipeline(settings):
    made = Pipeline.open(settings)
    yield made
    made.close()


def pictures_of(packets, codec="h264"):
    """The pixels of each picture, by stamp."""
    decoder = VideoDecoder()
    found = [o for p in packets for o in decoder.take(packet_of(ffmpeg_message(p, codec)))]
    return {each.packet.stamp_ns: each().pixels for each in [*found, *decoder.rest()]}


def frames_of(pipeline, path):
    """Copies of the results of a bag, and what was dropped."""
    frames, dropped = {}, []
    with BagReader(path) as bag:
        for result in replay(pipeline, bag):
            if isinstance(result, Dropped):
                dropped.append(result)
            else:
                frames[result.stamp_ns] = result.sequence.tokens.copy()
    return frames, dropped


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("transport", ["ffmpeg", "foxglove"])
def test_a_video_gives_the_frames_of_its_decoded_pictures(
    pipeline, settings, tmp_path, transport, b_frames
):
    packets = encoded(b_frames=b_frames, options=(("preset", "fast"),) if b_frames else ())
    pictures = pictures_of(packets)
    assert len(pictures) == 24
    raw = tuple(replace(c, topic="/raw", transport="raw") for c in settings.cameras)
    own = tuple(replace(c, topic="/video", transport=transport) for c in settings.cameras)
    more = [
        ("/raw", RAW, recorded_picture(pixels, stamp_ns), stamp_ns)
        for stamp_ns, pixels in pictures.items()
    ]
    bag = video_bag(tmp_path / "bag", packets, "/video", transport, more=more)
    of_raw, _ = frames_of(Pipeline(replace(settings, cameras=raw), *_parts(pipeline)), bag)
    of_video, dropped = frames_of(Pipeline(replace(settings, cameras=own), *_parts(pipeline)), bag)
    assert list(of_video) == sorted(pictures) and not dropped
    for stamp_ns, tokens in of_raw.items():
        np.testing.assert_array_equal(of_video[stamp_ns], tokens)


def _parts(pipeline):
    return pipeline.parts, pipeline.every_opened


def test_packets_without_a_picture_are_dropped_by_reason_and_the_numbers_close(pipeline, tmp_path):
    packets = list(encoded(count=48))
    packets[23] = packets[23]._replace(data=b"damaged")
    del packets[34:36], packets[:4]
    frames, dropped = frames_of(pipeline, video_bag(tmp_path / "bag", packets))
    assert len(frames) + len(dropped) == len(packets)
    # 4 to 9 before the first key frame; 24 to 29 behind the damaged packet, and 36 to 39 behind
    # those that are missing.
    assert Counter(d.reason for d in dropped) == {"no_key_frame": 6 + 6 + 4, "decode": 1}
    numbers = [(stamp_ns - BEGIN_NS) // FRAME_NS for stamp_ns in frames]
    assert numbers == [*range(10, 23), *range(30, 34), *range(40, 48)]
    assert dropped[0].text.startswith(f"{TOPIC}, {BEGIN_NS + 4 * FRAME_NS} ns: the video is joined")


def test_a_run_that_goes_on_in_the_middle_gives_the_same_frames(pipeline, tmp_path):
    bag = video_bag(tmp_path / "bag", encoded())
    whole, _ = frames_of(pipeline, bag)
    with BagReader(bag) as reader:
        for replayed in replay_from(pipeline, reader, first=13):
            result = replayed.result
            assert isinstance(result, FrameResult)
            np.testing.assert_array_equal(result.sequence.tokens, whole[result.stamp_ns])


def test_embed_without_a_parameter_file_takes_the_video(settings, tmp_path):
    bag = video_bag(tmp_path / "bag", encoded())
    found = settings_of_recording(bag)
    assert [(c.name, c.topic, c.transport) for c in found.cameras] == [("wrist", TOPIC, "ffmpeg")]
    own = replace(found, model=settings.model, engine=settings.engine)
    opened = Pipeline.open(own)
    options = EmbedOptions("safetensors")
    manifest = embed(opened, [BagSource(bag, TOPIC)], tmp_path / "out", options)
    opened.close()
    assert manifest["frames"] == 24


def test_a_video_beside_the_same_cameras_images_is_no_second_camera(tmp_path):
    image = recorded_picture(np.zeros((*SIZE_PX, 3), np.uint8), BEGIN_NS)
    other = ("/front/image_raw", RAW, image, BEGIN_NS)
    same = ("/wrist/image_raw", RAW, image, BEGIN_NS)
    both = settings_of_recording(video_bag(tmp_path / "a", encoded(), more=[same]))
    assert [(c.topic, c.transport) for c in both.cameras] == [("/wrist/image_raw", "raw")]
    apart = settings_of_recording(video_bag(tmp_path / "b", encoded(), more=[other]))
    assert [(c.topic, c.transport) for c in apart.cameras] == [
        ("/front/image_raw", "raw"),
        (TOPIC, "ffmpeg"),
    ]


def test_another_type_than_the_transports_is_said_with_what_to_set(pipeline, settings, tmp_path):
    bag = video_bag(tmp_path / "bag", encoded())
    camera = CameraSettings("wrist", TOPIC, "compressed")
    wrong = Pipeline(replace(settings, cameras=(camera,)), *_parts(pipeline))
    with pytest.raises(BagError) as refused:
        frames_of(wrong, bag)
    said = str(refused.value)
    assert (
        f"{TOPIC} is recorded as ffmpeg_image_transport_msgs/msg/FFMPEGPacket; accepted: " in said
    )
    assert said.endswith(
        "sensor_msgs/msg/CompressedImage, as cameras.wrist.transport is compressed; set "
        "cameras.wrist.transport: ffmpeg"
    )


def test_without_pyav_embed_of_a_video_ends_before_an_engine_is_opened(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadSetting, match="'cameras.whole.transport' is 'ffmpeg'.*pip install av"):
        Pipeline.open(settings)


def test_heads_are_fitted_on_the_pictures_of_a_video(tmp_path, caplog):
    label = typestore().types["std_msgs/msg/String"]
    kind = "std_msgs/msg/String"
    more = [
        ("/stage", kind, bytes(typestore().serialize_cdr(label(data=name), kind)), at_ns)
        for name, at_ns in (("near", BEGIN_NS), ("far", BEGIN_NS + 15 * FRAME_NS))
    ]
    packets = encoded()[2:]
    bag = video_bag(tmp_path / "bag", packets, more=more)
    with caplog.at_level(logging.WARNING), BagReader(bag) as reader:
        found = list(labelled_frames(reader, TOPIC, "/stage"))
    assert [f.label for f in found] == ["near"] * 5 + ["far"] * 9
    assert "no_key_frame: " in caplog.text
    source = read_bag(bag, TOPIC, "/stage", every=2)
    assert source.labels == ["near"] * 3 + ["far"] * 4
    pictures = check_all(source.pictures)
    assert not pictures.unreadable
    whole = pictures_of(encoded())
    first = pictures.decoded(0)
    np.testing.assert_array_equal(first.pixels, whole[BEGIN_NS + KEY_EVERY * FRAME_NS])


def test_int8_is_calibrated_with_the_pictures_of_a_video(tmp_path):
    preprocess = Preprocessor(ResizeRule((32, 32)))
    bag = video_bag(tmp_path / "bag", encoded())
    images = calibration_images(str(bag), preprocess, 3)
    whole = [
        preprocess(each()).numpy()
        for each in [
            picture
            for decoder in [VideoDecoder()]
            for p in encoded()
            for picture in decoder.take(packet_of(ffmpeg_message(p)))
        ]
    ]
    assert len(images) == 3
    np.testing.assert_array_equal(images[0], whole[0])
    np.testing.assert_array_equal(images[-1], whole[-1])
