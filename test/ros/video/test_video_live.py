"""A camera that sends video, over DDS: frames equal those of a bag with the same packets."""

import array
import sys

import numpy as np
import pytest
import rclpy

from test.ros.video.messages import video_messages
from test.video_bags import video_bag
from test.video_streams import (
    BEGIN_NS,
    FRAME_NS,
    KEY_EVERY,
    encoded,
    ffmpeg_message,
    foxglove_message,
)
from test.waiting import HANG_S
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.encode_recording import Dropped, replay
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader
from vit_perception.ros import messages as messages_module
from vit_perception.ros.messages import header_of
from vit_perception.ros.playback.bag_player import BagPlayer, PlayOptions

TOPIC = "/wrist/image"
__all__ = ["video_messages"]


@pytest.fixture
def video(video_messages):
    """``video(packet, transport)`` is a real message."""

    def make(packet, transport="ffmpeg", codec="h264"):
        kind = video_messages[transport == "foxglove"]
        plain = (ffmpeg_message if transport == "ffmpeg" else foxglove_message)(packet, codec)
        message = kind()
        for name, value in vars(plain).items():
            if name == "header":
                message.header = header_of(packet.stamp_ns, "camera")
            elif name == "timestamp":
                message.timestamp = header_of(packet.stamp_ns, "").stamp
            elif name == "data":
                message.data = array.array("B", packet.data)
            else:
                setattr(message, name, value)
        return message

    return make


def received(robot, count: int) -> None:
    """Wait until what became of so many packets is known."""
    account = robot.node._sync.accounts["wrist"]
    robot.until(lambda: account.received == count, what=f"packet {count}")


@pytest.fixture
def stranger():
    """A node of a DDS participant of its own: one participant knows one type a topic."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("stranger", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def of_bag(tiny_checkpoint, path, transport, **camera):
    """The tokens of a bag's frames by stamp, and the reasons of what was dropped."""
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("wrist", TOPIC, transport, **camera),),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    frames, dropped = {}, []
    with BagReader(path) as bag:
        for result in replay(pipeline, bag):
            if isinstance(result, Dropped):
                dropped.append(result.reason)
            else:
                frames[result.stamp_ns] = result.sequence.tokens.copy()
    pipeline.close()
    return frames, dropped


@pytest.mark.parametrize("transport", ["ffmpeg", "foxglove"])
def test_live_frames_are_those_of_a_bag_and_every_packet_is_accounted_for(
    rig, tiny_checkpoint, tmp_path, capfd, video, transport
):
    whole = encoded(count=48)
    # Joined in its middle, and with a loss.
    packets = whole[7:24] + whole[26:45]
    bag = video_bag(tmp_path / "bag", packets, TOPIC, transport)
    frames, dropped = of_bag(tiny_checkpoint, bag, transport, roi=(40, 20, 80, 60))
    assert len(frames) + len(dropped) == len(packets) and set(dropped) == {"no_key_frame"}
    robot = rig(cameras__wrist__transport=transport, cameras__wrist__roi=[40, 20, 80, 60])
    robot.activate()
    for count, packet in enumerate(packets, 1):
        robot.publish(TOPIC, video(packet, transport))
        if packet.stamp_ns in frames:
            tokens = robot.frame(packet.stamp_ns).tokens
            np.testing.assert_array_equal(tokens, frames[packet.stamp_ns])
        else:
            received(robot, count)
    books = robot.accounts("wrist", received=len(packets), published=len(frames), pending=0)
    assert books["dropped.no_key_frame"] == len(dropped) == 3 + 4
    lines = [line for line in capfd.readouterr().err.splitlines() if "key frame" in line]
    assert 1 <= len(lines) <= 2 and all(f"{TOPIC}: " in line for line in lines)
    assert "the video is joined in its middle; pictures come from the next key frame on" in lines[0]


def test_packets_whose_pictures_are_superseded_are_decoded_all_the_same(
    rig, tiny_checkpoint, tmp_path, video
):
    packets = encoded(count=48)
    frames, _ = of_bag(tiny_checkpoint, video_bag(tmp_path / "bag", packets, TOPIC), "ffmpeg")
    robot = rig(cameras__wrist__transport="ffmpeg", max_rate_hz=5.0)
    robot.activate()
    for packet in packets:
        robot.publish(TOPIC, video(packet))
    last_ns = packets[-1].stamp_ns
    np.testing.assert_array_equal(robot.frame(last_ns).tokens, frames[last_ns])
    books = robot.accounts("wrist", received=48, pending=0)
    assert books["dropped.superseded"] == 48 - books["published"] > 30
    for stamp_ns, frame in robot.tester.frames.items():
        if frame.received_ns:
            np.testing.assert_array_equal(frame.tokens, frames[stamp_ns])


def test_reordered_pictures_have_their_own_stamps_and_the_rest_is_counted_at_the_end(rig, video):
    packets = encoded(b_frames=2, options=(("preset", "fast"),))[:14]
    robot = rig(cameras__wrist__transport="ffmpeg")
    robot.activate()
    for packet in packets:
        robot.publish(TOPIC, video(packet))
    came = robot.until(
        lambda: (
            (n := robot.node._sync.accounts["wrist"].received)
            and n + robot.node._inputs._videos[0]._decoder.waiting == len(packets)
            and n
        ),
        what="all packets at the decoder",
    )
    assert came < len(packets)
    sync = robot.node._sync
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    account = sync.accounts["wrist"]
    assert account.received == len(packets)
    assert account.dropped["deactivated"] >= len(packets) - came
    assert account.received == account.published + sum(account.dropped.values())
    assert sync.pending("wrist") == 0
    assert set(robot.tester.frames) <= {p.stamp_ns for p in packets}


def test_a_bad_packet_and_a_bad_message_cost_pictures_until_the_next_key_frame(rig, capfd, video):
    packets = list(encoded(count=48))
    packets[3] = packets[3]._replace(data=b"#EXTM3U\nfile:///etc/passwd\n")
    packets[22] = packets[22]._replace(data=b"")
    robot = rig(cameras__wrist__transport="ffmpeg")
    robot.activate()
    for count, packet in enumerate(packets, 1):
        robot.publish(TOPIC, video(packet))
        received(robot, count)
    books = robot.accounts("wrist", received=48, pending=0)
    assert books["dropped.decode"] == 1 and books["dropped.short_data"] == 1
    assert books["dropped.no_key_frame"] == (KEY_EVERY - 4) + (30 - 23)
    robot.frame(BEGIN_NS + 47 * FRAME_NS)
    assert "does not decode as h264" in capfd.readouterr().err


def test_replay_plays_a_video_and_the_second_pass_begins_anew(
    rig, tiny_checkpoint, tmp_path, video_messages
):
    packets = encoded(count=48)
    path = video_bag(tmp_path / "bag", packets, TOPIC)
    frames, _ = of_bag(tiny_checkpoint, path, "ffmpeg")
    robot = rig(cameras__wrist__transport="ffmpeg")
    robot.activate()
    with BagReader(path) as bag:
        player = BagPlayer(robot.tester, bag, PlayOptions(loops=2))
        player.wait_for_subscribers(HANG_S)
        assert player.play() and player.sent[TOPIC] == 96
        player.wait_for_delivery()
    books = robot.accounts("wrist", received=96, pending=0)
    reasons = {name for name in books if name.startswith("dropped.")}
    assert reasons <= {"dropped.superseded", "dropped.time_jump"}
    assert books["published"] > 0
    for stamp_ns, frame in robot.tester.frames.items():
        if frame.received_ns:
            np.testing.assert_array_equal(frame.tokens, frames[stamp_ns])


def test_video_on_the_topic_of_another_transport_is_said_with_what_to_set(
    rig, capfd, stranger, video_messages
):
    robot = rig(cameras__wrist__transport="compressed", sync__silent_after_s=0.1)
    robot.activate()
    stranger.create_publisher(video_messages[0], TOPIC, 1)
    words = (
        "it is published as ffmpeg_image_transport_msgs/msg/FFMPEGPacket; transport compressed "
        "wants sensor_msgs/msg/CompressedImage; take a topic of that type, or set "
        "cameras.wrist.transport: ffmpeg"
    )
    robot.until(
        lambda: any(
            words in s.message
            for s in getattr(robot.tester.diagnostics, "status", ())
            if s.name.endswith("camera wrist")
        ),
        what="the diagnosis",
    )
    robot.until(lambda: words in capfd.readouterr().err, what="the warning")


def test_a_video_without_key_frames_is_the_situation_of_its_camera(rig, video):
    robot = rig(cameras__wrist__transport="ffmpeg", sync__silent_after_s=0.1)
    robot.activate()
    packets = encoded(count=48)[1:KEY_EVERY]
    count = [0]

    def situation():
        packet = packets[count[0] % len(packets)]
        packet = packet._replace(index=count[0])
        count[0] += 1
        robot.publish(TOPIC, video(packet))
        found = getattr(robot.tester.diagnostics, "status", ())
        return any(
            v.key == "situation" and v.value == "no_key_frame" for s in found for v in s.values
        )

    robot.until(situation, what="the situation no_key_frame")


@pytest.mark.parametrize(
    ("transport", "package"),
    [
        ("ffmpeg", "ros-$ROS_DISTRO-ffmpeg-image-transport-msgs"),
        ("foxglove", "ros-$ROS_DISTRO-foxglove-msgs"),
    ],
)
def test_without_the_message_package_configure_says_what_to_install(
    rig, capfd, monkeypatch, transport, package
):
    name = "foxglove_msgs" if transport == "foxglove" else "ffmpeg_image_transport_msgs"
    monkeypatch.setitem(sys.modules, f"{name}.msg", None)
    messages_module.class_of.cache_clear()
    robot = rig(cameras__wrist__transport=transport)
    assert robot.node.trigger_configure().name == "FAILURE"
    said = next(line for line in capfd.readouterr().err.splitlines() if "configure failed" in line)
    assert f"parameter 'cameras.wrist.transport' is '{transport}'; accepted: raw or" in said
    assert f"apt install {package}; or send the images as raw or compressed" in said
