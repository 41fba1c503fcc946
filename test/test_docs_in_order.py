"""Every page as a reader follows it: README, then docs/, each command and snippet in order, in one
clean folder.

Commands run as they are written, on recordings with every tenth image and on a tiny checkpoint:
the options of ADDED go behind them. What is not run is in NOT_RUN, with the reason; an entry that
no page needs fails.
"""

import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from test.conftest import DEMO_BAG, ROOT, TRAIN_BAG
from vit_perception.cli.main import main
from vit_perception.wire.tensors import encode_tensor

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
EVERY = 10
# Options behind the commands of each subcommand; TINY is the checkpoint's folder.
ENGINE = "--checkpoint TINY --backend torch"
ADDED = {
    "embed": f"{ENGINE} --precision float32",
    "inspect": f"{ENGINE} --precision float32",
    "reference": f"{ENGINE} --precision float32",
    "explain": "--checkpoint TINY",
    "fit": f"{ENGINE} --no-cache",
    "fit finetune": "--checkpoint TINY --epochs 1 --threads 1",
    "fit random": "--epochs 1 --threads 1",
}
ROS = "needs an installed ROS 2; test/ros/test_launch_files.py starts the launch files"
LAUNCH = "needs the sources of the launch system, from the network"
BOARD = "changes or needs a Jetson"
# The beginning of each command that is not run here, and why.
NOT_RUN = {
    "make ": "sets up an environment, or takes minutes; the tests are what `make test` runs",
    "vit-perception doctor": "looks at the machine; test/cli/test_cli.py runs it",
    "vit-perception demo": "half a minute; test/cli/test_demo_family.py runs it",
    "vit-perception replay": "plays over DDS in real time; test/cli/test_replay.py",
    "vit-perception watch": "needs a running node; test/ros/watch runs it",
    "vit-perception status": "needs a running node; test/ros/health/test_status.py",
    "vit-perception build": "builds for a GPU, or takes minutes; test/cli/test_build.py",
    "vit-perception extract": "needs a policy's files; test/cli/test_extract.py",
    ".venv/bin/vit-perception embed /path/to/my_bag": "a reader's own recording",
    "vit-perception embed s3://": "needs object storage; test/datasets/stored runs it on a server",
    "vit-perception embed lerobot_data_set/": "test/datasets/lerobot runs it on every version",
    "vit-perception embed --ray auto": "needs a cluster; test/datasets/fleet runs --ray local",
    "ray start": "begins a cluster; tools/fleet runs it",
    "vit-perception embed demonstrations/": "test/tools/closed_loop records and embeds them",
    "encoder_node": "runs until it is stopped; test/examples/test_policies_live.py",
    "python benchmarks/": "takes minutes; test/benchmarks runs their parts",
    "python examples/": "listens to a running node; test/examples/test_policies_live.py",
    "python -m tools.thin_link": "half an hour, as root; test/tools/thin_link runs a trial",
    "python -m vit_perception.ros.start": "runs until it is stopped; test/ros",
    "python -m pytest": "the tests themselves",
    "lerobot-train ": "needs lerobot; `python -m tools.lerobot_check` runs the script",
    "ros2 ": ROS,
    "cd ": ROS,
    "git clone": "needs the network",
    "mkdir site": LAUNCH,
    "touch site": LAUNCH,
    "echo 'class LoadNode": LAUNCH,
    "PATH=$PWD/site": LAUNCH,
    "source install": ROS,
    "rosdep ": ROS,
    "colcon ": ROS,
    "pip install": "installs packages",
    "sudo ": BOARD,
    "tegrastats": BOARD,
    "python3 -c": BOARD,
    "export LD_LIBRARY_PATH": BOARD,
    "export ROS_SECURITY": "needs a keystore of ROS 2",
    "ROS_SECURITY_": "needs a keystore of ROS 2",
    "scp ": "needs a robot",
    "docker ": "needs Docker; docs/docker.md says what was run",
    "lttng ": "needs LTTng; docs/tracing.md says what was run",
    "babeltrace2": "needs LTTng",
    "VIT_PERCEPTION_LTTNG": ROS,
    "pip wheel": "test/test_wheel.py builds the wheel",
}
# The first line of a snippet that is not run here, and why.
SNIPPETS_NOT_RUN = {
    "import rclpy": "needs a node; test/ros/test_readme.py runs it",
    "from vit_perception.files.storage.copying import fetch_folder": "needs object storage; "
    "test/datasets/stored runs it",
}


class Block(NamedTuple):
    """One fenced block of a page."""

    kind: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


def commands_of(block: Block) -> list[str]:
    """The commands of a block without comments; ``&&`` separates two."""
    if block.kind not in ("", "bash"):
        return []
    lines = block.text.replace("\\\n", " ").splitlines()
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [part.strip() for line in bare for part in line.split(" && ") if part.strip()]


def reason_not_to_run(command: str) -> str:
    return next((prefix for prefix in NOT_RUN if command.startswith(prefix)), "")


@pytest.fixture(scope="module")
def clean(tmp_path_factory, tiny_checkpoint):
    """What a checkout and a reader have: the two recordings, parameters, and some pictures."""
    folder = tmp_path_factory.mktemp("clean")
    for bag in (TRAIN_BAG, DEMO_BAG):
        (folder / "data/demo").mkdir(parents=True, exist_ok=True)
        _thin(bag, folder / "data/demo" / bag.name)
    shutil.copytree(ROOT / "config", folder / "config")
    pictures = folder / "vit_perception/engines/parity_pictures"
    shutil.copytree(ROOT / "vit_perception/engines/parity_pictures", pictures)
    (folder / "docs/images").mkdir(parents=True)
    shutil.copy(pictures / "coffee.jpg", folder / "picture.jpg")
    (folder / "list.txt").write_text("# a list\ndata/demo/pick_place_train\n\ndata/demo/*_demo\n")
    rng = np.random.default_rng(0)
    for label, bright in (("cup", 0), ("can", 128)):
        (folder / "pictures" / label).mkdir(parents=True)
        for k in range(6):
            pixels = rng.integers(bright, bright + 100, (60, 80, 3), np.uint8)
            cv2.imwrite(str(folder / "pictures" / label / f"{k}.jpg"), pixels)
    before = os.getcwd()
    os.chdir(folder)
    yield SimpleNamespace(folder=folder, tiny=str(tiny_checkpoint), ran=[], left=set(), pages=[])
    os.chdir(before)


def _thin(bag: Path, out: Path) -> None:
    """Every tenth image and label of ``bag``, and all poses."""
    with (
        AnyReader([bag]) as reader,
        Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        topics = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore)
            for c in reader.connections
        }
        seen = dict.fromkeys(topics, 0)
        for connection, stamp_ns, data in reader.messages():
            topic = connection.topic
            if topic == "/ee_pose" or seen[topic] % EVERY == 0:
                writer.write(topics[topic], stamp_ns, data)
            seen[topic] += 1


def _arguments(command: str, tiny: str) -> list[str]:
    words = shlex.split(command)[1:]
    key = words[0]
    if key == "fit" and "finetune" in words:
        key = "fit random" if "--variant" in words else "fit finetune"
    added = ADDED.get(key, "").replace("TINY", tiny).split()
    return [*words, *added]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page, clean, capsys):
    message = SimpleNamespace(
        **encode_tensor(np.arange(12, dtype=np.float32).reshape(3, 4))._asdict()
    )
    # Of a page whose snippet begins with a message that a subscription hands over.
    tokens = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    int8_message = SimpleNamespace(**encode_tensor(tokens, "int8")._asdict())
    names = {"message": message, "int8_message": int8_message, "np": np}
    for block in blocks_of(page):
        if block.kind == "python":
            first = block.text.splitlines()[0]
            if first in SNIPPETS_NOT_RUN:
                clean.left.add(first)
                continue
            exec(compile(block.text, f"{page.name}: {first}", "exec"), names)
            clean.ran.append(first)
        for command in commands_of(block):
            if prefix := reason_not_to_run(command):
                clean.left.add(prefix)
                continue
            assert command.startswith("vit-perception "), f"{command} is neither run nor in NOT_RUN"
            status = main(_arguments(command, clean.tiny))
            assert status == 0, f"{page.name}: {command}: {capsys.readouterr().err[-2000:]}"
            clean.ran.append(command)
    clean.pages.append(page)


def test_what_is_left_out_is_in_a_page(clean):
    """Behind the pages: each reason has a command, and most subcommands have run."""
    if clean.pages != list(PAGES):
        pytest.skip("not all pages have run")
    assert clean.left == NOT_RUN.keys() | SNIPPETS_NOT_RUN.keys()
    assert {line.split()[1] for line in clean.ran if line.startswith("vit-perception")} == {
        "basis",
        "embed",
        "explain",
        "fit",
        "inspect",
        "reference",
        "search",
    }
    assert len(clean.ran) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_where_the_commands_are_is_said_before_the_first(page):
    text = page.read_text()
    program = r"^(vit-perception|encoder_node|python examples|python -m vit)"
    first = re.search(program, text, re.MULTILINE)
    if first:
        assert ".venv/bin" in text[: first.start()], f"{page.name} does not say where they are"
