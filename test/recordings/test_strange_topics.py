"""Topics that tools would read of themselves, and that cannot be: left out by name, or refused
where none is left.
"""

import pytest

from test.recordings.mcap import parts as m
from vit_perception.cli.main import main
from vit_perception.config.offline_settings import settings_of_recording
from vit_perception.recordings.reader import BagError

IMAGE, S = "sensor_msgs/msg/Image", 1_700_000_000_000_000_000
LIES = "std_msgs/Header header\nstring height\n"


def recorded(path, channels):
    """A file of (topic, schema, what the schema says), with one message on each topic."""
    described = b""
    for k, (topic, name, encoding, data) in enumerate(channels, 1):
        described += m.schema(k, name, encoding, data) + m.channel(
            k, k, topic, "json" if "json" in encoding else "cdr"
        )
    chunk = m.chunk_of(
        [(k, S + k, b"\0\1\0\0" + bytes(60)) for k in range(1, len(channels) + 1)], described
    )
    counts = m.statistics(
        dict.fromkeys(range(1, len(channels) + 1), 1), S + 1, S + len(channels), 1
    )
    size = len(chunk) - 49
    index = m.index(S + 1, S + len(channels), len(m.header()), len(chunk), size, size)
    return m.write(path, chunk, described + counts + index)


def test_an_image_topic_that_cannot_be_read_is_no_camera(tmp_path, caplog):
    path = recorded(
        tmp_path / "bag.mcap",
        [("/good/image", IMAGE, "ros2msg", ""), ("/bad/image", IMAGE, "ros2msg", LIES)],
    )
    assert [camera.topic for camera in settings_of_recording(path).cameras] == ["/good/image"]
    assert (
        f"/bad/image is left out: {IMAGE} has `string height` where ROS has `uint32 height`"
        in caplog.text
    )


def test_a_bag_whose_images_cannot_be_read_is_refused_before_the_model_is_loaded(tmp_path, capsys):
    path = recorded(tmp_path / "bag.mcap", [("/bad/image", IMAGE, "ros2msg", LIES)])
    for tool in ("embed", "inspect"):
        assert main([tool, str(path), "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr()
        assert said.err.startswith(
            f"vit-perception {tool}: no image of {path} can be read: {IMAGE} has `string he"
        )
        assert said.err.count("\n") == 1 and not said.out


def test_a_bag_without_image_topics_says_what_is_left_out(tmp_path):
    path = recorded(
        tmp_path / "bag.mcap",
        [("/odd", "a.b/msg/Image", "ros2msg", ""), ("/t", "std_msgs/msg/String", "", "")],
    )
    with pytest.raises(
        BagError,
        match="has no image topic; there are: /t; /odd is left out: its type 'a.b/msg/Image'",
    ):
        settings_of_recording(path)


def test_hundreds_of_image_topics_are_not_hundreds_of_cameras(tmp_path):
    path = recorded(
        tmp_path / "bag.mcap", [(f"/c{k}/image", IMAGE, "ros2msg", "") for k in range(300)]
    )
    with pytest.raises(
        BagError, match="has 300 image topics and 0 pose topics; accepted: at most 64 of each"
    ):
        settings_of_recording(path)


def test_replay_names_what_it_does_not_play(tmp_path, capsys):
    path = recorded(
        tmp_path / "bag.mcap",
        [
            ("/bad/image", IMAGE, "ros2msg", LIES),
            ("/x", "Battery", "jsonschema", "{}"),
            ("/t", "std_msgs/msg/String", "ros2msg", "string data\n"),
        ],
    )
    assert main(["replay", str(path)]) == 0
    said = capsys.readouterr()
    assert "not played: /x: its messages are 'json' of type 'Battery', not CDR\n" in said.err
    assert "not played: /bad/image: sensor_msgs/msg/Image has `string height`" in said.err
    assert "1 messages sent" in said.out
    assert main(["replay", str(path), "--topics", "/bad/image"]) == 1
    assert "subscribers would misread it" in capsys.readouterr().err
