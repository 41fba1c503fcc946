"""``vit-perception status`` of a real node, over DDS and in a context of its own."""

import re
import signal
import threading

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image

from test.ros.conftest import stamped_pose
from test.ros.health.test_situations import ARM, Stream
from test.waiting import wait_for_words, wait_until
from vit_perception.cli import main as cli
from vit_perception.cli.processes import Child
from vit_perception.ros.health.status_screen import screen
from vit_perception.ros.health.status_watch import StatusWatch


class Shown:
    """The screen, looked at on a thread of its own while the test's node and tester run."""

    def __init__(self, robot, *words: str, step=lambda: None):
        self.text = ""
        self._stop = False
        self._words = words
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        robot.until(lambda: step() or not thread.is_alive(), what=f"{words} on the screen")
        assert not self._stop

    def _look(self) -> None:
        with StatusWatch() as watch:
            node = watch.find("", 60.0)
            while not all(re.search(word, self.text) for word in self._words):
                self.text = screen(watch.look(node))


def test_of_an_active_node_it_has_state_engine_inputs_drops_and_outputs(rig):
    robot = rig(**ARM, poses__arm__wait_s=0.0, log_status_s=0.0)
    robot.activate()
    robot.tester.create_subscription(Image, "/vit_encoder/tokens", lambda message: None, 1)
    robot.tester.create_publisher(Image, "/vit_encoder/camera_of_another_node", 1)
    images = Stream(robot, "/wrist/image")

    def send():
        stamp_ns = next(images._stamps_ns)
        robot.publish("/ee_pose", stamped_pose(stamp_ns))
        images()

    shown = Shown(robot, r"wrist .* receiving", r"arm .* receiving", r"superseded \d", step=send)
    text = shown.text
    assert text.startswith("/vit_encoder: active; last diagnostics ")
    assert re.search(r"\nengine    torch \S+ float32 on .*, cosine \d\.\d+: running\n", text)
    assert "\ntokens    18 x 64 float32: wrist/cls 1, wrist/patch 16, arm/pose 1\n" in text
    assert re.search(r"\nframes    \d+\.\d\d Hz\n", text)
    assert re.search(
        r"\n  camera wrist +/wrist/image +\d+\.\d\d Hz +\d+\.\d+ s ago +receiving\n", text
    )
    assert re.search(
        r"\n  arm arm +/ee_pose +.*receiving; \d+ interpolated, \d+ held, \d+ mi", text
    )
    assert re.search(r"\ndrops\n  camera wrist +of \d+ received: .*superseded \d+\n", text)
    assert re.search(r"\n  tokens +sensor_msgs/msg/Image +2 subscribers\n", text)
    assert re.search(r"\n  layout +std_msgs/msg/String +1 subscribers\n", text)
    assert "camera_of_another_node" not in text


def test_of_a_node_that_waits_it_says_how_to_go_on(rig):
    robot = rig()
    text = Shown(robot, "unconfigured").text
    assert "/vit_encoder: unconfigured; it waits for configure and activate. Either" in text
    assert "\nengine    not open\n" in text and "\ninputs\n  none\n" in text


def test_the_command_prints_one_screen_and_a_line_where_no_node_is(rig, capsys):
    rig()
    assert cli.main(["status", "/vit_encoder"]) == 0
    assert capsys.readouterr().out.startswith("/vit_encoder: unconfigured; ")

    def told() -> bool:
        """Whether it names the node that is there; how long it takes to be found nobody knows."""
        assert cli.main(["status", "/other", "--wait-s", "1"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        words = "vit-perception status: no node /other within 1 s on ROS domain "
        assert line.startswith(words)
        return line.endswith("; there is /vit_encoder")

    wait_until(told, "the name of the node that is there")


def test_without_any_node_it_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "9")  # no test run has that one
    assert cli.main(["status", "--wait-s", "0.2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no encoder node within 0.2 s on ROS domain 9; " in line and "start one" in line


def test_watch_goes_on_until_ctrl_c(rig, tmp_path):
    rig()
    child = Child.module("vit_perception.cli.main", "status", "--watch", log=tmp_path / "log")
    wait_for_words(child, "/vit_encoder: unconfigured")
    wait_for_words(child, "\n\n/vit_encoder: unconfigured")
    assert child.stop(sent=signal.SIGINT) == 0
    assert "Traceback" not in child.log.read_text()


def test_texts_of_strangers_are_cut_and_escaped(rig):
    robot = rig()
    publisher = robot.tester.create_publisher(DiagnosticArray, "/diagnostics", 10)
    status = DiagnosticStatus(name="vit_encoder: camera \x1b[31m" + "x" * 5000, message="\x1b[2J")
    status.values = [KeyValue(key="received", value="1"), KeyValue(key="rate_hz", value="\x00?")]
    text = Shown(
        robot, "xxx", step=lambda: publisher.publish(DiagnosticArray(status=[status]))
    ).text
    assert "\x1b" not in text and len(text) < 5000
