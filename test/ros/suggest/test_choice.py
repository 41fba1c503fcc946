"""Which topics become what, and the file that is written about it."""

import pytest
import yaml

from test.ros.suggest.topics import graph, image, joints, jpeg, pose, refused, silent, wrench
from vit_perception.config.offline_settings import read_parameters
from vit_perception.config.settings import BadSetting
from vit_perception.files.errors import OperationFailed
from vit_perception.ros.suggest.choice import COMPRESSED, POSE, RAW, STATE, suggest
from vit_perception.ros.suggest.parameter_text import (
    parameter_text,
    write_parameters,
    yaml_value,
)

DEPTH = "encoding is '16UC1'; accepted: rgb8"


def written(seen, tmp_path, checkpoint=""):
    """The text of the file, and the settings that the node makes of it."""
    text = parameter_text(suggest(seen), seen, checkpoint, "2026-01-01 00:00 UTC")
    file = tmp_path / "params.yaml"
    write_parameters(file, text)
    assert file.read_text() == text
    return text, read_parameters(file)[0]


def cameras_of(*topics):
    return {c.name: c.topic.name for c in suggest(graph(*topics)).groups["cameras"]}


def test_a_robot_with_everything(tmp_path):
    seen = graph(
        jpeg("/left/wrist_camera/image_raw/compressed"),
        jpeg("/right/wrist_camera/image_raw/compressed"),
        image("/overhead/image_raw"),
        pose("/left/ee_pose", frame_id="left_base"),
        pose("/right/ee_pose", 10.0, frame_id="right_base"),
        joints("/joint_states", "finger_1", "on", has_velocities=True),
        wrench("/wrist/wrench", frame_id="tool 0"),
    )
    text, settings = written(seen, tmp_path, "/models/my model")
    assert [(c.name, c.topic, c.transport) for c in settings.cameras] == [
        ("left_wrist_camera", "/left/wrist_camera/image_raw/compressed", "compressed"),
        ("overhead", "/overhead/image_raw", "raw"),
        ("right_wrist_camera", "/right/wrist_camera/image_raw/compressed", "compressed"),
    ]
    assert [(p.name, p.topic, p.frame_id, p.max_skew_s) for p in settings.poses] == [
        ("left_arm", "/left/ee_pose", "left_base", 0.05),
        ("right_arm", "/right/ee_pose", "right_base", 0.06),
    ]
    [state] = settings.states
    assert (state.name, state.topic, state.joints) == (
        "joints",
        "/joint_states",
        ("finger_1", "on"),
    )
    assert state.fields == ("position",)
    [sensor] = settings.group("wrenches")
    assert (sensor.name, sensor.topic, sensor.frame_id) == ("wrist", "/wrist/wrench", "tool 0")
    assert settings.model.checkpoint == "/models/my model"
    assert settings.sync.slop_s == 0.017
    assert "topic: overhead/image_raw " in text  # relative, as in the example files
    assert "# published by /driver (reliable, volatile)" in text
    assert "# velocities come, too: [position, velocity]" in text
    assert "FILL IN" not in text and "Not used" not in text


def test_without_a_checkpoint_the_line_is_to_be_filled_in(tmp_path):
    text, settings = written(graph(image("/wrist/image_raw")), tmp_path)
    assert settings.model.checkpoint == "demo"
    [line] = [line for line in text.splitlines() if "model.checkpoint" in line]
    assert line.startswith("    model.checkpoint: demo") and "# FILL IN your model" in line
    assert "# No arm: no PoseStamped" in text and "source: tf" not in text


def test_where_tf_is_published_the_file_says_how_to_take_a_pose_from_it(tmp_path):
    text, settings = written(graph(image("/wrist/image_raw"), has_tf=True), tmp_path)
    assert settings.poses == ()
    commented = [line.split("# ", 1)[1] for line in text.splitlines() if "poses.arm" in line]
    assert yaml.safe_load("\n".join(commented))["poses.arm.source"] == "tf"


def test_of_one_camera_one_topic_is_taken():
    raw, packed = image("/wrist/image_raw"), jpeg("/wrist/image_raw/compressed")
    assert cameras_of(raw, packed, image("/wrist/image_rect_color")) == {
        "wrist": "/wrist/image_raw"
    }
    notes = suggest(graph(raw, packed)).groups["cameras"][0].notes
    assert notes == (
        "the same camera: /wrist/image_raw/compressed (compressed, 640×480 jpeg, 30 Hz)",
    )
    assert cameras_of(image("/a/image_rect"), jpeg("/a/image_color/compressed")) == {
        "a": "/a/image_color/compressed"
    }
    assert cameras_of(image("/cam_0"), image("/cam_1")) == {"cam_0": "/cam_0", "cam_1": "/cam_1"}


def test_raw_images_that_get_lost_are_not_taken():
    packed = jpeg("/wrist/image_raw/compressed", 30.0)
    assert cameras_of(image("/wrist/image_raw", 10.0), packed) == {
        "wrist": "/wrist/image_raw/compressed"
    }


def test_what_is_no_measurement_is_left_out_with_the_reason(tmp_path):
    seen = graph(
        image("/wrist/image_raw"),
        refused("/wrist/depth/image_rect", RAW, DEPTH),
        silent("/front/image_raw", RAW),
        pose("/goal_pose"),
        pose("/arm/target/pose"),
        silent("/ee_pose", POSE),
        joints("/joint_states", *(f"joint_{k}" for k in range(65))),
        wrench("/wrench", frame_id=""),
        unheard=("/x/image",),
    )
    text, settings = written(seen, tmp_path)
    assert [c.name for c in settings.cameras] == ["wrist"]
    assert settings.poses == settings.states == settings.group("wrenches") == ()
    said = text.split("Not used:")[1]
    for topic, why in (
        ("/wrist/depth/image_rect", DEPTH),
        ("/front/image_raw", "no message came"),
        ("/goal_pose", "by its name a command, no measurement"),
        ("/arm/target/pose", "by its name a command, no measurement"),
        ("/ee_pose", "no message came"),
        ("/joint_states", "it names 65 joints"),
        ("/wrench", "its headers name no frame"),
    ):
        assert f"# {topic} (" in said and why in " ".join(said.replace("#", "").split())
    assert "1 more topics were not listened to: /x/image" in said


def test_poses_without_a_frame_are_accepted_as_they_are(tmp_path):
    _, settings = written(graph(image("/a"), pose("/ee_pose", frame_id="")), tmp_path)
    [arm] = settings.poses
    assert (arm.name, arm.frame_id, arm.accept_empty_frame) == ("arm", "", True)


def test_of_several_frames_the_most_frequent_one_is_expected():
    arm = pose("/ee_pose", frame_id="base")
    arm.frame_ids["other\n"] = 3
    [chosen] = suggest(graph(image("/a"), arm)).groups["poses"]
    assert chosen.settings[0].value == "base"
    assert r"messages with other\n are refused" in chosen.settings[0].why


@pytest.mark.parametrize(
    "seen, said",
    [
        (graph(), "no camera, pose, joint state or wrench is published on ROS domain 7 within 4 s"),
        (graph(pose("/ee_pose")), "no camera publishes on ROS domain 7 within 4 s, only /ee_pose"),
        (
            graph(refused("/depth", RAW, DEPTH), silent("/b", COMPRESSED)),
            f"no image came that the node can use on ROS domain 7 within 4 s: /b: no message came; "
            f"/depth: {DEPTH}",
        ),
    ],
)
def test_without_an_image_one_line_says_what_there_is(seen, said):
    with pytest.raises(OperationFailed) as raised:
        suggest(seen)
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)


def test_clocks_that_differ_are_said_at_the_top_of_the_file(tmp_path):
    text, _ = written(graph(image("/a"), pose("/ee_pose", delay_s=9.0)), tmp_path)
    head = " ".join(text.split("/**:")[0].replace("#", "").split())
    assert "WARNING: /ee_pose: its stamps are 9.0 s behind the images'" in head


def test_texts_of_strangers_stay_in_their_comments_and_quotes(tmp_path):
    hostile = "x\nengine.backend: torch\u2028\x85y: 'z' # \"q\" \\"
    camera = image("/a", picture=hostile)
    camera.publishers = (hostile,)
    arm = pose("/ee_pose", frame_id="a: 'b' # \"c\" \\ ü 🤖 {}[]")
    other = refused("/b", STATE, hostile)
    text, settings = written(graph(camera, arm, other), tmp_path)
    assert settings.engine.backend == "auto"
    assert settings.poses[0].frame_id == "a: 'b' # \"c\" \\ ü 🤖 {}[]"
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("text", ["on", "y", "010", "1e3", "null", "~", "", "-", "a b", "a:", "é"])
def test_a_text_stays_a_text_for_ros(text, tmp_path):
    seen = graph(image("/a"), joints("/joint_states", "j", text) if text else image("/b"))
    _, settings = written(seen, tmp_path)
    assert not text or settings.states[0].joints == ("j", text)


@pytest.mark.parametrize(
    "value, text",
    [
        (True, "true"),
        (0.025, "0.025"),
        (2.0, "2.0"),
        (("a", "1"), '[a, "1"]'),
        ("a/b_c", "a/b_c"),
        ("on", '"on"'),
        ("", '""'),
    ],
)
def test_values_are_written_as_ros_reads_them(value, text):
    assert yaml_value(value) == text


def test_what_the_node_would_refuse_is_not_written(tmp_path):
    file = tmp_path / "params.yaml"
    with pytest.raises(BadSetting, match=r"sync\.slop_s"):
        write_parameters(
            file,
            "/**:\n  ros__parameters:\n    camera_names: [a]\n"
            "    cameras.a.topic: a\n    sync.slop_s: 3.0\n",
        )
    assert list(tmp_path.iterdir()) == []
