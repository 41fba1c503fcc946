"""The launch files, under the launch system where there is one; what they declare, everywhere."""

import ast
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from test.conftest import DEMO_BAG, ROOT
from test.waiting import PROGRAM_S, wait_until
from vit_perception.cli.processes import Child

LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
STARTED = r"process started with pid \[(\d+)\]"


def declared_arguments(file: Path) -> list[str]:
    """The names in the calls of DeclareLaunchArgument."""
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument"
    ]


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_every_launch_argument_is_in_the_readme(file):
    told = (ROOT / "README.md").read_text().split("## On a robot")[1].split("## Topics")[0]
    names = declared_arguments(file)
    assert (
        len(names) >= 2
        and [n for n in names if f"`{n}`" not in told and f"`{n}:=" not in told] == []
    )


def what_is_missing() -> str:
    """'' where ``ros2 launch vit_perception ...`` can run."""
    if shutil.which("ros2") is None or importlib.util.find_spec("launch_ros") is None:
        return "ros2 launch is not installed"
    try:
        prefix = Path(get_package_prefix("vit_perception"))
    except PackageNotFoundError as error:
        return f"{error}; source the install folder of colcon build"
    executable = prefix / "lib/vit_perception/encoder_node"
    return "" if executable.exists() else f"{executable} is not there"


needs_launch = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())


class Launch(Child):
    """``ros2 launch vit_perception file arguments``; ``extra_path`` is a folder of modules for
    every Python in it.
    """

    def __init__(self, log: Path, file: str, extra_path: Path | None = None, **arguments):
        words = [f"{name}:={value}" for name, value in arguments.items()]
        paths = os.pathsep.join(
            filter(None, [str(extra_path or ""), os.environ.get("PYTHONPATH", "")])
        )
        super().__init__(
            ["ros2", "launch", "vit_perception", file, *words], log, {"PYTHONPATH": paths}
        )

    def pids(self) -> list[int]:
        """Of the processes that it has started, the oldest first."""
        return [int(pid) for pid in re.findall(STARTED, self.log.read_text())]

    def until(self, text: str, times: int = 1) -> None:
        """Wait until the log holds the pattern ``text`` so many times."""
        wait_until(lambda: len(re.findall(text, self.log.read_text())) >= times, text, self.tail)

    def ended(self) -> int:
        """Its exit status, when it has ended by itself and left nothing behind."""
        wait_until(lambda: self.returncode is not None, "its end", self.tail, limit_s=PROGRAM_S)
        assert not [pid for pid in self.pids() if Path(f"/proc/{pid}").exists()]
        return self.stop()


@pytest.fixture
def parameters(tiny_checkpoint, tmp_path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "/**": {
                    "ros__parameters": {
                        "camera_names": ["wrist"],
                        "cameras.wrist.topic": "/wrist/image",
                        "model.checkpoint": str(tiny_checkpoint),
                        "engine.backend": "torch",
                        "engine.precision": "float32",
                    }
                }
            }
        )
    )
    return file


@needs_launch
def test_a_killed_node_is_started_again_and_ctrl_c_ends_it_for_good(tmp_path, parameters):
    robot = Launch(
        tmp_path / "log",
        "vit_encoder.launch.py",
        params_file=parameters,
        respawn="true",
        respawn_delay=1.5,
    )
    robot.until("active, listening")
    os.kill(robot.pids()[0], signal.SIGKILL)
    killed_s = time.monotonic()
    robot.until(STARTED, times=2)
    assert time.monotonic() - killed_s >= 1.4
    robot.until("active, listening", times=2)
    os.kill(robot.pid, signal.SIGINT)
    assert robot.ended() == 0
    said = robot.log.read_text()
    assert (
        len(robot.pids()) == 2 and said.count("finished cleanly") == 1 and "escalating" not in said
    )


# Python imports it by itself at its start. While the file BROKEN is beside it, torch as an engine
# fails for good.
SITECUSTOMIZE = """
import importlib.util, sys
from pathlib import Path

class Finder:
    def find_spec(self, name, path, target=None):
        if name != "vit_perception.engines.torch_engine":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def execute_and_break(module):
            execute(module)
            run = module.TorchEngine._run
            def run_or_fail(engine, images):
                if Path(__file__).with_name("BROKEN").exists():
                    raise RuntimeError("CUDA error: unspecified launch failure")
                return run(engine, images)
            module.TorchEngine._run = run_or_fail
        spec.loader.exec_module = execute_and_break
        return spec

sys.meta_path.insert(0, Finder())
"""


@needs_launch
def test_a_node_that_has_lost_the_gpu_ends_with_75_and_is_started_again_and_activated(
    tmp_path, parameters
):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (modules / "BROKEN").touch()
    robot = Launch(
        tmp_path / "log",
        "vit_encoder.launch.py",
        modules,
        params_file=parameters,
        respawn="true",
        respawn_delay=1.5,
    )
    robot.until(r"process has died \[pid \d+, exit code 75")
    (modules / "BROKEN").unlink()
    robot.until("active, listening")
    assert (
        len(robot.pids()) >= 2
        and "CUDA error 719, unspecified launch failure" in robot.log.read_text()
    )
    os.kill(robot.pid, signal.SIGINT)
    assert robot.ended() == 0


@needs_launch
def test_without_respawn_a_killed_node_stays_away(tmp_path, parameters):
    robot = Launch(
        tmp_path / "log", "vit_encoder.launch.py", params_file=parameters, respawn_delay=0
    )
    robot.until(STARTED)
    os.kill(robot.pids()[0], signal.SIGKILL)
    robot.ended()
    assert len(robot.pids()) == 1


@needs_launch
@pytest.mark.parametrize(
    "argument, value",
    [("respawn_delay", "soon"), ("respawn_delay", "-1"), ("params_file", "/nowhere/params.yaml")],
)
def test_a_bad_argument_is_named_and_nothing_starts(tmp_path, argument, value):
    robot = Launch(tmp_path / "log", "vit_encoder.launch.py", **{argument: value})
    assert robot.ended() == 1 and not robot.pids()
    assert f"{argument}:='{value}'" in robot.tail()


@pytest.fixture
def viewers(tmp_path, monkeypatch) -> Path:
    """Packages rviz2 and foxglove_bridge, in the place of the real ones: each program notes its
    arguments in the folder that is returned, and waits.
    """
    prefix, noted = tmp_path / "viewers", tmp_path / "noted"
    noted.mkdir()
    (prefix / "share/ament_index/resource_index/packages").mkdir(parents=True)
    for name in ("rviz2", "foxglove_bridge"):
        (prefix / "share/ament_index/resource_index/packages" / name).touch()
        program = prefix / "lib" / name / name
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\necho "$@" > {noted}/{name}\nexec sleep 1000\n')
        program.chmod(0o755)
    paths = f"{prefix}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    monkeypatch.setenv("AMENT_PREFIX_PATH", paths)
    return noted


@needs_launch
@pytest.mark.parametrize("view, package", [("rviz", "rviz2"), ("foxglove", "foxglove_bridge")])
def test_a_viewer_starts_with_the_topics_of_this_node(tmp_path, parameters, viewers, view, package):
    robot = Launch(
        tmp_path / "log",
        "vit_encoder.launch.py",
        params_file=parameters,
        namespace="robot_1",
        name="eyes",
        view=view,
    )
    robot.until(STARTED, times=2)
    wait_until(lambda: (viewers / package).exists(), "the viewer's start", robot.tail)
    if view == "rviz":
        file = (viewers / package).read_text().split()[1]
    else:
        file = re.findall(r"ws://localhost:8765, and import the layout (\S+)", robot.tail(100))[0]
        given = re.findall(r"--params-file (\S+)", (viewers / package).read_text())
        assert "127.0.0.1" in Path(given[0]).read_text()
    assert "/robot_1/eyes/wrist/attention_view" in Path(file).read_text()
    os.kill(robot.pid, signal.SIGINT)
    robot.ended()


@needs_launch
def test_a_viewer_that_is_closed_does_not_end_the_demo(tmp_path, viewers):
    demo = Launch(tmp_path / "log", "demo.launch.py", bag=DEMO_BAG, view="rviz")
    demo.until(r"rviz2-\d+\]: process started")
    demo.until(STARTED, times=3)
    pid = int(re.findall(rf"rviz2-\d+\]: {STARTED}", demo.log.read_text())[0])
    os.kill(pid, signal.SIGTERM)
    demo.until(r"rviz2-\d+\]: process has died")
    demo.until("active, listening")
    assert demo.returncode is None
    os.kill(demo.pid, signal.SIGINT)
    demo.ended()


@needs_launch
@pytest.mark.parametrize(
    "view, said",
    [
        ("tv", "view:='tv'; accepted: none, rviz, foxglove"),
        ("rviz", "view:='rviz' needs the package rviz2: sudo apt install ros-"),
        ("foxglove", "needs the package foxglove_bridge: sudo apt install ros-"),
    ],
)
def test_a_viewer_that_is_not_there_is_named_and_nothing_starts(tmp_path, view, said):
    for package in ("rviz2", "foxglove_bridge"):
        if view in package:
            with contextlib.suppress(PackageNotFoundError):
                get_package_prefix(package)
                pytest.skip(f"{package} is installed")
    robot = Launch(tmp_path / "log", "vit_encoder.launch.py", view=view)
    assert robot.ended() == 1 and not robot.pids()
    assert said in robot.tail()


@needs_launch
def test_the_demo_fails_when_its_encoder_is_killed(tmp_path):
    demo = Launch(tmp_path / "log", "demo.launch.py", bag=DEMO_BAG)
    demo.until(rf"encoder_node-1\]: {STARTED}")
    demo.until(STARTED, times=2)
    os.kill(demo.pids()[0], signal.SIGKILL)
    assert demo.ended() == 1
    assert "encoder_node-1 ended before the bag did, with exit status -9" in demo.log.read_text()


@needs_launch
def test_the_demo_fails_with_its_player(tmp_path):
    demo = Launch(tmp_path / "log", "demo.launch.py", bag=tmp_path / "no_bag")
    assert demo.ended() == 1
    said = demo.log.read_text()
    assert (
        "no bag at" in said and "with exit status 1" in said and said.count("finished cleanly") == 1
    )
