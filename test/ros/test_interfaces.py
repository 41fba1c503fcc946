"""A recording names message types; nothing but installed interfaces is imported for it."""

import subprocess
import sys

import pytest

from test.conftest import ROOT
from test.waiting import PROGRAM_S
from vit_perception.recordings.reader import BagError
from vit_perception.ros.interfaces import INDEX, message_class

NO_MESSAGES = [
    "antigravity/msg/X",
    "this/msg/X",
    "idlelib.idle/msg/X",
    "venv.__main__/msg/X",
    "venv/__main__/X",
    "os/msg/system",
    "unittest.__main__/msg/X",
    "./msg/X",
    "..x/msg/X",
    ".venv/msg/X",
    "//X",
    "a/X",
    "a/b/c/X",
    "",
    "X",
    "/msg/X",
    "sensor_msgs/msg/__doc__",
    "sensor_msgs/msg/image",
    "sensor_msgs/srv/SetCameraInfo",
    "sensor_msgs/msg/Image\n",
    "sensor_msgs/msg/Image/x",
    "sensor_msgs/msg/Nothing",
    "sensor_msgs\0/msg/Image",
    "rclpy/msg/Node",
    "../../etc/msg/X",
    "/etc/msg/X",
    "sensor_msgs/msg/SetCameraInfo",
    "x" * 10_000_000,
    "evil/msg/X",
    "vit_perception/msg/Cli",
    "\ud800/msg/X",
    "std_msgs.msg/msg/String",
    "STD_MSGS/msg/String",
]


def test_installed_messages_are_found():
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Classification

    assert message_class("sensor_msgs/msg/Image") is Image
    assert message_class("vision_msgs/msg/Classification") is Classification


@pytest.mark.parametrize("name", NO_MESSAGES, ids=lambda name: ascii(name[:30]))
def test_whatever_else_is_named_is_refused_and_not_imported(name):
    before = set(sys.modules)
    with pytest.raises(BagError, match="message type .*; accepted: ") as caught:
        message_class(name)
    assert set(sys.modules) == before and len(str(caught.value)) < 400


def test_without_a_sourced_shell_the_installation_of_rclpy_counts(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert message_class("sensor_msgs/msg/Image").__name__ == "Image"


def test_an_index_that_says_so_does_not_make_a_package_of_any_module(tmp_path, monkeypatch):
    """The index of another prefix has it, but Python would import something else."""
    (tmp_path / INDEX).mkdir(parents=True)
    (tmp_path / INDEX / "antigravity").write_text("msg/X.msg\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f".:{tmp_path}:")
    with pytest.raises(
        BagError, match=f"is installed in {tmp_path}, and Python finds antigravity .*sourced"
    ):
        message_class("antigravity/msg/X")
    assert "antigravity" not in sys.modules


def test_nothing_is_imported_from_the_current_folder(tmp_path):
    for folder in ("shape_msgs", "shape_msgs/msg", "evil", "evil/msg", INDEX):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("shape_msgs", "evil"):
        for file in (f"{package}/__init__.py", f"{package}/msg/__init__.py"):
            (tmp_path / file).write_text(
                f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Mesh: pass\n"
            )
        (tmp_path / INDEX / package).write_text("msg/Mesh.msg\n")
    code = (
        f"import sys; sys.path.append({str(ROOT)!r})\nfrom vit_perception.ros.interfaces import "
        "message_class\n"
        "from vit_perception.recordings.reader import "
        "BagError\nprint(message_class('shape_msgs/msg/Mesh').__module__)\n"
        "try:\n    message_class('evil/msg/Mesh')\nexcept BagError:\n    print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert done.stdout.split() == ["shape_msgs.msg._mesh", "refused"], done.stderr
    assert not (tmp_path / "imported").exists()
