"""What a person reads who starts the node by hand: never nothing."""

import re
from functools import partial

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from test.ros.conftest import Rig
from test.waiting import run_program, status_of, wait_for_words
from vit_perception.cli.processes import Child
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.ros import encoder_node
from vit_perception.ros.health import first_words

START = "vit_perception.ros.start"


def test_help_is_a_page():
    """Regression: --help printed nothing, and the node ran."""
    import sys

    ended = run_program([sys.executable, "-m", START, "--help"])
    assert ended.returncode == 0 and not ended.stderr
    for words in ("--params-file FILE", "autostart:=true", "lifecycle set /vit_encoder configure"):
        assert words in ended.stdout


def test_a_node_without_autostart_says_what_it_waits_for_and_how_to_go_on(tmp_path):
    """Regression: it said nothing at all, for as long as it ran."""
    node = Child.module(START, "--ros-args", "-r", "__ns:=/left", log=tmp_path / "log")
    try:
        wait_for_words(node, "vit_encoder]: unconfigured: it waits for configure and activate")
        lines = node.log.read_text().splitlines()
        assert lines[0] == first_words.STARTING
        (said,) = (line for line in lines if "unconfigured" in line)
        assert "`ros2 lifecycle set /left/vit_encoder configure`" in said
        assert "`ros2 lifecycle set /left/vit_encoder activate`" in said
        assert "`--ros-args -p autostart:=true`" in said
    finally:
        assert node.stop() == 0


def test_a_file_for_another_node_names_the_names_that_it_has(tmp_path, tiny_checkpoint):
    """Regression: configure said "camera_names is []"."""
    file = tmp_path / "params.yaml"
    file.write_text(
        "/**/base:\n  ros__parameters: {use_sim_time: false}\n"
        "encoder_left:\n  ros__parameters: {camera_names: [wrist]}\n"
    )
    node = Child.module(
        START,
        *("--ros-args", "--params-file", str(file), "-p", "autostart:=true"),
        log=tmp_path / "log",
    )
    try:
        wait_for_words(node, "the node stays, unconfigured")
        log = node.log.read_text()
        assert f"{file} has parameters of /**/base, /encoder_left, and this node is /vit_enc" in log
        assert "-r __node:=" in log and "configure failed" in log
    finally:
        assert node.stop() == 0


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    """Regression: a traceback of 20 lines."""
    missing = tmp_path / "none.yaml"
    node = Child.module(START, "--ros-args", "--params-file", str(missing), log=tmp_path / "log")
    assert status_of(node) == 1
    (line,) = node.log.read_text().splitlines()
    assert line.startswith(f"encoder_node: --params-file: there is no {missing}; accepted: ")


def test_a_file_that_ros_cannot_read_is_no_traceback(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("vit_encoder:\n  ros__parameters:\n    a: [1, x]\n")
    node = Child.module(START, "--ros-args", "--params-file", str(file), log=tmp_path / "log")
    assert status_of(node) == 1
    log = node.log.read_text()
    assert "Traceback" not in log and f"{file}" in log.splitlines()[-1]


def test_a_configure_says_what_it_is_at_with_the_time_so_far(rig, capfd, monkeypatch):
    """The node's own beats, which come every 5 s, at a period that any configure outlasts."""
    monkeypatch.setattr(encoder_node, "Heartbeat", partial(Heartbeat, period_s=0.001))
    robot: Rig = rig()
    assert robot.node.trigger_configure().name == "SUCCESS"
    log = capfd.readouterr().err
    assert re.search(r"loading checkpoint \S+: \d+ s so far", log)
    said = [line for line in log.splitlines() if not line.endswith(" so far")]
    assert sum("CLS cosine" in line for line in said) == 1  # the gate's figures come once


def test_after_configure_failed_it_says_that_it_stays_and_how_to_try_again(rig, capfd):
    robot: Rig = rig(model__checkpoint="/no/checkpoint")
    assert "unconfigured: it waits for configure and activate" in capfd.readouterr().err
    client = robot.tester.create_client(ChangeState, "/vit_encoder/change_state")
    robot.until(client.service_is_ready, what="the service")
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    answer = client.call_async(request)
    robot.until(answer.done, what="the answer")
    assert not answer.result().success
    lines = capfd.readouterr().err.splitlines()
    failed = next(k for k, line in enumerate(lines) if "configure failed" in line)
    assert "the node stays, unconfigured. Set what is wrong (`ros2 param set /vit_enco" in lines[-1]
    assert "`ros2 lifecycle set /vit_encoder configure`" in lines[-1] and failed < len(lines) - 1


@pytest.mark.parametrize(
    "arguments, files, helps",
    [
        (["--ros-args", "--params-file", "a", "--params-file", "b"], ["a", "b"], False),
        (["--params-file", "a"], [], False),
        (["--ros-args", "-p", "a:=b", "--", "--help"], [], True),
        (["--ros-args", "--log-level", "-h"], [], False),
        (["--ros-args", "--params-file"], [], False),
    ],
)
def test_arguments_of_the_program_and_of_ros_are_told_apart(arguments, files, helps):
    assert [str(file) for file in first_words.parameter_files(arguments)] == files
    assert first_words.wants_help(arguments) is helps
