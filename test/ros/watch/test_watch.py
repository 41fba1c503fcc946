"""`vit-perception watch` of a real node: what its viewer is given, read back by another viewer."""

import itertools
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from test.ros.conftest import image_message, stamped_pose
from test.ros.health.test_situations import ARM
from test.ros.watch.watching import Seen, Watch, values
from test.waiting import status_of, wait_for_words, wait_until
from vit_perception.cli.main import main

S = 1_000_000_000


class Life:
    """Images and poses with rising stamps, sent at every call."""

    def __init__(self, robot, camera="wrist"):
        self._robot = robot
        self._topic = f"/{camera}/image"
        self._numbers = itertools.count(1)

    def __call__(self) -> None:
        number = next(self._numbers)
        stamp_ns = 100 * S + number * S // 20
        self._robot.publish("/ee_pose", stamped_pose(stamp_ns, x_m=0.001 * number))
        self._robot.publish(self._topic, image_message(stamp_ns, seed=1))


@pytest.fixture
def watching(tmp_path):
    """``watching(*options)`` starts `watch` and a second viewer of what it sends."""
    made = []

    def start(*options: str) -> tuple[Watch, Seen]:
        watch = Watch(tmp_path, *options)
        made.append(watch)
        seen = Seen(watch, tmp_path)
        made.append(seen)
        return watch, seen

    yield start
    for child in reversed(made):
        child.stop(sent=signal.SIGTERM)


def alive(robot, life):
    """A step that sends, and hears what comes back."""

    def step() -> None:
        life()
        robot._testers.spin_once(timeout_sec=0.02)

    return step


def test_images_views_classes_poses_and_figures_come_to_the_viewer(rig, tiny_classifier, watching):
    robot = rig(**ARM, poses__arm__wait_s=0.0, model__checkpoint=str(tiny_classifier))
    robot.activate()
    life = Life(robot)
    watch, seen = watching("--rate-hz", "20")
    expected = {f"wrist/{view}" for view in ("image", "pca", "attention")}
    expected |= {"arm/hand", "arm/path", "messages"}
    expected |= {rf"diagnostics/{key}/camera\ wrist" for key in ("rate_hz", "published")}
    expected |= {rf"diagnostics/latency_p99_ms/infer/{status}" for status in ("latency",)}
    step = alive(robot, life)
    watch.says("the node is there\n", step)
    chunks = seen.until(expected, step)
    scored = [path for path in chunks if path.startswith("wrist/score/")]
    assert len(scored) >= 1 and "stamp" in chunks["wrist/image"][0].timeline_names
    (pixels,) = values(chunks["wrist/image"], "Image:buffer")[0]
    sent = np.frombuffer(image_message(S, seed=1).data, np.uint8).reshape(48, 64, 3)
    assert np.array_equal(np.array(pixels, np.uint8).reshape(48, 64, 3), sent[..., ::-1])
    (path,) = values(chunks["arm/path"], "LineStrips3D:strips")[-1]
    assert len(path) >= 2 and path[-1][0] > path[0][0] and path[-1][2] == 0.5
    (score,) = values(chunks[scored[0]], "Scalars:scalars")[-1]
    assert 0.0 < score <= 1.0
    texts = [text for (text,) in values(chunks["messages"], "TextLog:text")]
    assert {"watch: the node is there", "engine: running"} & set(texts)
    assert "showing wrist, arm\n" in watch.log.read_text()


def test_a_node_that_goes_and_comes_back_with_another_camera_is_followed(rig, watching):
    first = rig()
    first.activate()
    watch, seen = watching()
    watch.says("showing wrist\n")
    first.close()
    watch.says("the node is gone; waiting for it\n")
    second = rig(camera_names=["gripper"], cameras__gripper__topic="/gripper/image", **ARM)
    second.activate()
    watch.says("showing gripper, arm\n")
    watch.says("the node is there\n")
    life = Life(second, camera="gripper")
    chunks = seen.until({"gripper/image", "gripper/pca", "arm/hand"}, alive(second, life))
    assert "wrist/image" not in chunks


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_it_ends_quietly_and_leaves_nothing_behind(rig, tmp_path, monkeypatch, sent):
    rig()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    watch = Watch(tmp_path)
    viewer = watch.viewer_pid()
    assert watch.stop(sent=sent) == 0
    assert not Path(f"/proc/{viewer}").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    said = watch.log.read_text().splitlines()
    assert len(said) <= 2 and said[0].startswith("watching /vit_encoder: open http://127.0.0.1:")


def test_a_watch_that_is_killed_takes_its_viewer_along(rig, tmp_path):
    """Regression: the viewer stayed, with both ports and up to 500 MB."""
    rig()
    watch = Watch(tmp_path)
    viewer = watch.viewer_pid()
    os.kill(watch.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{viewer}").exists(), "the viewer's end")
    assert status_of(watch) == -signal.SIGKILL


def test_no_memory_grows_while_the_viewer_hangs(rig, watching):
    robot = rig()
    robot.activate()
    image = image_message(100 * S, size_px=(480, 640))

    def life() -> None:
        robot.publish("/wrist/image", image)

    watch, _ = watching("--rate-hz", "50")
    watch.says("showing wrist\n", step=alive(robot, life))
    os.kill(watch.viewer_pid(), signal.SIGSTOP)
    try:
        watch.says("the viewer takes nothing at the moment", step=alive(robot, life))
        before_mb = rss_mb(watch.pid)
        for _ in range(200):  # 184 MB
            life()
        assert rss_mb(watch.pid) - before_mb < 40
    finally:
        os.kill(watch.viewer_pid(), signal.SIGCONT)


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_viewer_that_dies_is_one_line(rig, tmp_path):
    rig()
    watch = Watch(tmp_path)
    os.kill(watch.viewer_pid(), signal.SIGKILL)
    wait_for_words(watch, "the viewer ended with exit status -9: it said nothing")
    assert status_of(watch) == 1 and "Traceback" not in watch.log.read_text()


def test_what_cannot_be_is_one_line_before_the_node_is_looked_for(capsys, monkeypatch, tmp_path):
    def line(*options: str) -> str:
        assert main(["watch", *options]) == 1
        (said,) = capsys.readouterr().err.splitlines()
        return said

    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(variable, raising=False)
    assert "there is no display" in line() and "--web" in line()
    assert "--rate-hz is nan; accepted" in line("--web", "--rate-hz", "nan")
    assert "--bind is 'here'; accepted: an IPv4 address" in line("--web", "--bind", "here")
    assert "--memory-mb is 1; accepted" in line("--web", "--memory-mb", "1")
    assert "--web-port is 0; accepted: 1 to 65535" in line("--web", "--web-port", "0")
    # No machine has an address of the net for documentation.
    assert "cannot be used" in line("--web", "--bind", "192.0.2.1")
    monkeypatch.setenv("RERUN_CLI_PATH", str(tmp_path / "rerun"))
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert line("--web").endswith("watch needs rerun-sdk: pip install rerun-sdk")


def test_a_port_that_is_taken_is_named(rig, tmp_path, capsys):
    rig()
    watch = Watch(tmp_path)
    ports = ["--web-port", str(watch.web_port), "--data-port", str(watch.data_port)]
    assert main(["watch", "--web", *ports]) == 1
    said = capsys.readouterr().err
    assert re.search(rf"--web-port: 127.0.0.1:{watch.web_port} cannot be used: .*in use", said)
    assert watch.stop() == 0
