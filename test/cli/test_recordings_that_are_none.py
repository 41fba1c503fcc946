"""What `embed`, `inspect` and `replay` say of a path that is no recording: what it is, and what is
accepted.
"""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from rosbags.rosbag1 import Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from test.conftest import DEMO_BAG
from test.datasets.test_embed_memory import long_bag
from test.waiting import PROGRAM_S
from vit_perception.cli.main import main
from vit_perception.recordings.reader import BagError, BagReader

ACCEPTED = "accepted: a rosbag2 folder with metadata.yaml, or one .mcap or .db3 file of it"
EMBED_ACCEPTS = (
    "accepted: rosbag2 folders (with metadata.yaml) or files, folders of them, one folder of "
    "pictures, or one LeRobot data set"
)
KINDS = {
    "old.bag": "old.bag is a recording of ROS 1; "
    + ACCEPTED
    + ", as `rosbags-convert --src {}/old.bag --dst {}/old`",
    "renamed.mcap": "renamed.mcap is a recording of ROS 1; " + ACCEPTED,
    "folder_of_ros1": "holds recordings of ROS 1 (old.bag); "
    + ACCEPTED
    + ", as `rosbags-convert --src ",
    "no_metadata": "is a bag without metadata.yaml; accepted: the whole folder (`ros2 bag reindex "
    "{}/no_metadata` "
    "writes the file anew), or a file of it: pick_place_demo.mcap",
    "cut.mcap": "cut.mcap is no readable bag: it does not end as an MCAP file (cut.mcap is cut "
    "off, as by a recorder "
    "that was killed: `mcap recover` saves what there is); " + ACCEPTED,
    "cut": "(pick_place_demo.mcap is cut off",
    "cut.db3": "database disk image is malformed (cut.db3 is cut off: 40000 of ",
    "noise.db3": "it is no SQLite database; " + ACCEPTED,
    "noise.mcap": "it does not begin as an MCAP file; " + ACCEPTED,
    "nothing.db3": "nothing.db3 is an empty file; " + ACCEPTED,
    "no_files": "files that its metadata.yaml names are missing: pick_place_demo.mcap; " + ACCEPTED,
    "no_yaml": "no_yaml is no readable bag: {}/no_yaml/metadata.yaml is no YAML: ",
}
# Of these `embed` takes other things too.
OTHERS = {
    "empty": ("is an empty folder; ", ACCEPTED, EMBED_ACCEPTS),
    "not_there": ("not_there; ", ACCEPTED, EMBED_ACCEPTS),
    "notes.txt": ("notes.txt is no", ACCEPTED, EMBED_ACCEPTS),
    "notes": (
        "notes ",
        "is no bag: it has no metadata.yaml, but a.txt; " + ACCEPTED,
        "holds no pictures; accepted: .jpg, .jpeg, .png, .bmp, .webp files, a rosbag2 folder",
    ),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths")
    for name in ("folder_of_ros1", "no_metadata", "cut", "no_files", "no_yaml", "empty", "notes"):
        (root / name).mkdir()
    recording = DEMO_BAG / "pick_place_demo.mcap"
    for name in ("old.bag", "renamed.mcap", "folder_of_ros1/old.bag"):
        (root / name).write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    for name in ("no_metadata", "no_yaml"):
        shutil.copy(recording, root / name)
    for name in ("cut", "no_files"):
        shutil.copy(DEMO_BAG / "metadata.yaml", root / name)
    for name in ("cut.mcap", "cut/pick_place_demo.mcap"):
        (root / name).write_bytes(recording.read_bytes()[:100_000])
    database = long_bag(root / "whole", StoragePlugin.SQLITE3, 40) / "whole.db3"
    (root / "cut.db3").write_bytes(database.read_bytes()[:40_000])
    for name, content in (
        ("noise.db3", b"noise" * 100),
        ("noise.mcap", b"noise" * 100),
        ("nothing.db3", b""),
        ("no_yaml/metadata.yaml", b"{{"),
        ("notes.txt", b"mine"),
        ("notes/a.txt", b"mine"),
    ):
        (root / name).write_bytes(content)
    return root


def said(subcommand, path, out, capsys):
    """Status 1, and the one line on stderr; a traceback would come out of main."""
    assert (
        main([subcommand, str(path), *(["--out", str(out)] if subcommand != "replay" else [])]) == 1
    )
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1, captured.err
    assert captured.err.startswith(f"vit-perception {subcommand}: ") and not out.exists()
    return captured.err


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("subcommand", ["embed", "inspect", "replay"])
def test_what_is_no_recording_is_named(paths, tmp_path, capsys, subcommand, name):
    error = said(subcommand, paths / name, tmp_path / "out", capsys)
    assert KINDS[name].replace("{}", str(paths)) in error and str(paths / name) in error


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("subcommand", ["embed", "inspect", "replay"])
def test_what_is_something_else_is_named_with_what_each_takes(
    paths, tmp_path, capsys, subcommand, name
):
    error = said(subcommand, paths / name, tmp_path / "out", capsys)
    what, of_bags, of_embed = OTHERS[name]
    assert (
        str(paths / name) in error
        and what in error
        and (of_embed if subcommand == "embed" else of_bags) in error
    )


def test_the_command_that_converts_is_one(tmp_path):
    """The command of the message, with a real recording of ROS 1, and the bag that it makes."""
    store, old = get_typestore(Stores.ROS1_NOETIC), tmp_path / "my old.bag"
    types = store.types
    with Writer(old) as writer:
        topic = writer.add_connection("/ee_pose", "geometry_msgs/msg/PoseStamped", typestore=store)
        header = types["std_msgs/msg/Header"](
            7, types["builtin_interfaces/msg/Time"](5, 6), "world"
        )
        place = types["geometry_msgs/msg/Pose"](
            types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0),
            types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
        )
        writer.write(
            topic, 10, store.serialize_ros1(types[topic.msgtype](header, place), topic.msgtype)
        )
    with pytest.raises(BagError) as refused:
        BagReader(old)
    program, *arguments = shlex.split(re.search("`(.*)`", str(refused.value))[1])
    assert program == "rosbags-convert"
    subprocess.run(
        [sys.executable, "-m", "rosbags.convert", *arguments], check=True, timeout=PROGRAM_S
    )
    with BagReader(tmp_path / "my old") as bag:
        ((_, stamp_ns, message),) = bag.messages(["/ee_pose"])
    assert (stamp_ns, message.header.stamp.sec, message.header.frame_id) == (10, 5, "world")
    assert message.pose.position.z == 3.0
