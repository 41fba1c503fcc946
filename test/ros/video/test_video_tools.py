"""Video in doctor and watch: what a topic carries, what to set, and the newest picture shown."""

import itertools

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from test.ros.suggest.test_listener import Robot
from test.ros.video.messages import video_messages
from test.ros.video.test_video_live import video
from test.video_streams import BEGIN_NS, FRAME_NS, Coded, encoded, ffmpeg_message, pixels
from vit_perception.image.video.decoder import VideoDecoder, VideoPicture
from vit_perception.image.video.packets import packet_of
from vit_perception.ros.suggest import listener
from vit_perception.ros.suggest.choice import _best, suggest, why_not
from vit_perception.ros.suggest.seen import TopicSeen
from vit_perception.ros.watch.live_topics import LiveTopics, Source, WatchedVideo
from vit_perception.wire.records import BadInput

__all__ = ["video", "video_messages"]
FFMPEG = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
WRIST = "/wrist/image_raw"


@pytest.fixture
def robot():
    made = Robot()
    yield made
    made.close()


def test_doctor_sees_a_video_and_writes_its_transport(robot, video, video_messages):
    packets = itertools.cycle(encoded())
    stamps_ns = itertools.count(BEGIN_NS, FRAME_NS)

    def make(transport):
        def message(_):
            packet = next(packets)
            index = (next(stamps_ns) - BEGIN_NS) // FRAME_NS
            return video(packet._replace(index=index), transport)

        return message

    robot.sends(video_messages[1], f"{WRIST}/foxglove", make("foxglove"), 100)
    seen = robot.seen(lambda seen: any(t.usable for t in seen.topics))
    (topic,) = seen.topics
    assert (topic.picture, topic.frame_id) == ("160×96 h264", "camera")
    (camera,) = suggest(seen).groups["cameras"]
    assert camera.name == "wrist"
    setting = camera.settings[0]
    assert (setting.name, setting.value) == ("cameras.wrist.transport", "foxglove")


def test_doctor_waits_for_a_key_frame_and_decodes_no_more_than_the_first_picture(monkeypatch):
    topic = TopicSeen(f"{WRIST}/ffmpeg", FFMPEG, video=VideoDecoder())
    for packet in encoded()[4:10]:
        listener.take(topic, ffmpeg_message(packet))
    assert not topic.usable and "key frame" in why_not(topic) and not topic.arrivals
    assert not listener._has_enough(topic)
    listener.take(topic, ffmpeg_message(encoded()[10]))
    assert topic.usable and topic.picture == "160×96 h264" and topic.video is None
    monkeypatch.setattr(VideoDecoder, "take", None)
    for packet in encoded()[11:]:
        listener.take(topic, ffmpeg_message(packet))
    assert topic.received == 20 and len(topic.arrivals) == 14 and listener._has_enough(topic)
    assert topic.period_s == pytest.approx(FRAME_NS / 1e9)


def test_doctor_says_which_messages_are_missing():
    topic = TopicSeen(f"{WRIST}/ffmpeg", FFMPEG, refused="it is not installed here: apt install x")
    assert why_not(topic) == "it is not installed here: apt install x"
    assert listener._has_enough(topic)


def test_of_one_camera_images_are_taken_before_video():
    moving = TopicSeen(f"{WRIST}/ffmpeg", FFMPEG, received=1)
    packed = TopicSeen(f"{WRIST}/compressed", "sensor_msgs/msg/CompressedImage", received=1)
    assert _best([moving]) is moving
    assert _best([moving, packed]) is packed and _best([packed, moving]) is packed


def test_watch_decodes_every_packet_and_shows_the_newest_picture(video, video_messages):
    watched = WatchedVideo(Source("image", "wrist", FFMPEG))
    assert watched.newest() is None
    for packet in encoded()[:7]:
        watched.add(serialize_message(video(packet)))
    picture = watched.newest()
    assert isinstance(picture, VideoPicture) and picture.packet.stamp_ns == encoded()[6].stamp_ns
    decoder = VideoDecoder()
    (expected,) = [decoder.take(packet_of(ffmpeg_message(p))) for p in encoded()[:7]][-1]
    np.testing.assert_array_equal(picture().pixels, expected().pixels)
    assert watched.newest() is None
    watched.add(b"cut")
    assert isinstance(watched.newest(), BadInput)
    watched.add(serialize_message(video(encoded()[7])))
    refused = watched.newest()
    assert isinstance(refused, BadInput) and refused.reason == "no_key_frame"
    for packet in (Coded(8, False, b"x"), *encoded()[9:12]):
        watched.add(serialize_message(video(packet)))
    assert watched.newest().packet.stamp_ns == encoded()[11].stamp_ns


def test_watch_shows_the_video_that_the_node_takes(rig, video):
    robot = rig(cameras__wrist__transport="ffmpeg")
    robot.activate()
    packets = itertools.cycle(encoded())
    numbers = itertools.count()
    with LiveTopics("/vit_encoder") as topics:

        def shown():
            number = next(numbers)
            robot.publish("/wrist/image", video(next(packets)._replace(index=number)))
            topics.listen(0.02)
            return next(
                (r.message for r in topics.readings() if isinstance(r.message, VideoPicture)), None
            )

        picture = robot.until(shown, what="a picture")
    assert picture().pixels.shape == pixels(0).shape
