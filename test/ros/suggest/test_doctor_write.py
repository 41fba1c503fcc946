"""``vit-perception doctor --write`` as a newcomer uses it: the demo's player, the file that is
written, and the node with exactly that file, as processes of their own over DDS.
"""

import re

import pytest
import yaml
from rclpy.executors import SingleThreadedExecutor

from test.conftest import DEMO_BAG, ROOT
from test.waiting import wait_for_words, wait_until
from vit_perception.cli import doctor
from vit_perception.cli.doctor import given_checkpoint, segment
from vit_perception.cli.main import main
from vit_perception.cli.processes import PROFILE_VARIABLES, Child
from vit_perception.files.errors import InvalidValue
from vit_perception.ros.playback.output_watcher import OutputWatcher
from vit_perception.ros.suggest import listener

DEMO_TOPICS = ("/agentview/image/compressed", "/wrist/image/compressed", "/ee_pose")


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    """The demo's recorded robot, again and again."""
    log = tmp_path_factory.mktemp("player") / "log"
    child = Child.module(
        "vit_perception.cli.main",
        "replay",
        str(DEMO_BAG),
        "--topics",
        *DEMO_TOPICS,
        "--loop",
        log=log,
    )
    yield child
    assert child.stop() == 0, child.tail()


def write(file, *arguments):
    """Write the file, once the player has begun; how long that takes nobody knows."""

    def written():
        return main(["doctor", "--write", str(file), *arguments]) == 0

    wait_until(written, f"a file for the topics of {DEMO_BAG}")


def test_the_node_runs_with_exactly_the_file_that_was_written(
    player, tiny_checkpoint, tmp_path, capsys
):
    file = tmp_path / "params.yaml"
    write(file, "--checkpoint", str(tiny_checkpoint))
    said = capsys.readouterr().out
    assert f"\nwritten: {file} (agentview, wrist, arm). encoder_node --ros-args" in said
    given = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    example = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["/**"]["ros__parameters"]
    # By hand the demo's file has full names, and a limit on the classes of its heads.
    expected = {n: v.strip("/") if n.endswith("topic") else v for n, v in example.items()}
    assert expected.pop("top_k") and expected.pop("model.checkpoint") == "demo"
    assert {name: given[name] for name in expected} == expected
    assert given["model.checkpoint"] == str(tiny_checkpoint)
    # On a busy machine messages are late or lost, and times are measured that suit it.
    timing = {"sync.silent_after_s", "poses.arm.max_skew_s", "poses.arm.wait_s"}
    others = {"model.checkpoint", "sync.slop_s", "sync.policy"}
    assert set(given) - set(expected) - timing == others
    page = (ROOT / "docs/robots_day.md").read_text()
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    rest = {"model.checkpoint": "hf://facebook/dinov2-base", "sync.slop_s": 0.025}
    usual = {name: value for name, value in given.items() if name not in timing}
    assert shown["/**"]["ros__parameters"] == usual | rest

    encoder = Child.module(
        "vit_perception.ros.start",
        "--ros-args",
        "--params-file",
        str(file),
        "-p",
        "autostart:=true",
        # Only for the test's time: auto takes the same file, and exports the model first.
        "-p",
        "engine.backend:=torch",
        log=tmp_path / "node.log",
    )
    watcher = OutputWatcher("/vit_encoder", views=False)
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    try:
        wait_for_words(encoder, "first frame after")
        groups = ("agentview/cls", "agentview/patch", "wrist/cls", "wrist/patch", "arm/pose")

        def whole():
            """A frame in which no camera and no pose is missing."""
            frames = [f for f in watcher.frames.values() if f.tokens is not None]
            return next((f for f in frames if f.tokens.any(axis=1).all() and f.poses), None)

        frame = wait_until(
            whole,
            "a frame with every token",
            encoder.tail,
            step=lambda: executor.spin_once(timeout_sec=0.05),
        )
        assert tuple(group.name for group in watcher.layout.groups) == groups
        assert frame.tokens.shape == (watcher.layout.token_count, 64)
        assert frame.poses["arm"].header.frame_id == "world"
        assert "does nothing" not in encoder.log.read_text()  # a parameter that nobody reads
        assert encoder.stop() == 0
    finally:
        encoder.stop()
        executor.shutdown()
        watcher.destroy_node()


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(player, tmp_path, capsys):
    file = tmp_path / "params.yaml"
    file.write_text("mine")
    assert main(["doctor", "--write", str(file)]) == 1
    (line, hint) = capsys.readouterr().err.splitlines()
    assert line == (
        f"vit-perception doctor: --write is {file}, which is there already; accepted: a new file"
    )
    assert hint == "hint: --force replaces it"
    assert file.read_text() == "mine"
    write(file, "--force")
    assert "model.checkpoint: demo " in file.read_text()
    assert "Fill in model.checkpoint, then: encoder_node " in capsys.readouterr().out


def test_doctor_says_what_is_on_the_graph(player, capsys):
    def told():
        text = "\n".join(doctor.graph(2.0))
        return text if "/ee_pose: pose, " in text else ""

    text = wait_until(told, "the pose on the graph")
    assert re.search(r"^graph        3 topics for the node on ROS domain \d+$", text, re.MULTILINE)
    assert "compressed image, 320×240 jpeg, " in text
    assert re.search(r"^clocks       all stamps are \d+ days behind", text, re.MULTILINE)
    assert re.search(r"^memory       .* free in /dev/shm; each process takes", text, re.MULTILINE)


def test_nothing_on_the_graph_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", "9")  # no test run has that one
    monkeypatch.setattr(listener, "FIND_S", 0.2)
    assert main(["doctor", "--write", str(tmp_path / "params.yaml")]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(
        "vit-perception doctor: no camera, pose, joint state or wrench is published on ROS domain 9"
    )
    assert said.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["--write", "no/such/folder/p.yaml"],
            "--write is no/such/folder/p.yaml; accepted: a file",
        ),
        (["--checkpoint", "demo"], "--checkpoint without --write"),
        (["--force"], "--force without --write"),
        (["--listen-s", "0"], "--listen-s is 0.0; accepted: seconds above 0"),
        (["--listen-s", "nan"], "--listen-s is nan; accepted: seconds above 0"),
        (["--write", "p.yaml", "--checkpoint", "none/here"], "--checkpoint is none/here, and"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    arguments, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shared_memory_is_only_judged_for_fast_dds():
    assert segment({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) is None
    assert not segment({}).from_profile
    profile = str(ROOT / "config/fastdds_large_data.xml")
    for variable in PROFILE_VARIABLES:
        assert segment({variable: profile}).bytes == 32 << 20


def test_a_checkpoint_means_the_same_wherever_the_node_is_started(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_checkpoint("model") == given_checkpoint("~/model") == str(tmp_path / "model")
    for name in ("", "demo", "hf://facebook/dinov2-base"):
        assert given_checkpoint(name) == name
    with pytest.raises(InvalidValue, match="nothing is there"):
        given_checkpoint("other")
