"""`vit-perception replay` as a user types it, heard over DDS by a node of its own."""

import itertools
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from test.cli.replay_listener import POSES, STRING, WRIST, listener, play, text_bag  # noqa: F401
from test.conftest import DEMO_BAG, ROOT
from test.recordings.formats import OTHER_TOOL
from test.waiting import HANG_S, PROGRAM_S
from vit_perception.cli.main import main
from vit_perception.recordings.reader import BagReader


def seconds(data):
    clock = deserialize_message(data, Clock).clock
    return clock.sec + clock.nanosec / 1e9


def test_the_recorded_bytes_at_the_recorded_times_with_the_clock_and_other_names(
    listener, tmp_path
):
    listener.listen("/arm/pose", PoseStamped)
    listener.listen(WRIST, CompressedImage)
    listener.listen("/clock", Clock)
    status, said = play(
        listener,
        tmp_path,
        DEMO_BAG,
        "--topics",
        POSES,
        WRIST,
        "--remap",
        f"{POSES}:=/arm/pose",
        "--start",
        2,
        "--duration",
        1,
        "--rate",
        2,
        "--clock",
        100,
        "--wait-s",
        HANG_S,
    )
    assert status == 0 and "120 messages sent" in said and "100  /ee_pose" in said
    with BagReader(DEMO_BAG) as bag:
        begin_ns = bag.start_ns + 2 * 10**9
        for topic, name in ((POSES, "/arm/pose"), (WRIST, WRIST)):
            recorded = [m.data for m in bag.raw([topic], begin_ns, begin_ns + 10**9)]
            # DDS fills what it sends up to a multiple of four bytes.
            assert [
                data[: len(one)]
                for (_, data), one in zip(listener.heard[name], recorded, strict=True)
            ] == recorded
    times_s = [at for at, _ in listener.heard["/arm/pose"]]
    assert (
        times_s[-1] - times_s[0] > 0.495 - 0.1
    )  # 0.99 s at twice the speed; the first one may come late
    ticks = [seconds(data) for _, data in listener.heard["/clock"]]
    assert (
        all(a <= b for a, b in itertools.pairwise(ticks))
        and ticks[0] >= 2002.0
        and ticks[-1] <= 2003.0
    )
    assert len(ticks) >= 2


def test_loops_begin_anew_and_the_clock_jumps_back(listener, tmp_path):
    listener.listen(POSES, PoseStamped)
    listener.listen("/clock", Clock)
    status, said = play(
        listener,
        tmp_path,
        DEMO_BAG,
        "--topics",
        POSES,
        "--duration",
        0.2,
        "--loop",
        3,
        "--clock",
        "--wait-s",
        HANG_S,
    )
    assert status == 0 and "60 messages sent" in said
    passes = [data for _, data in listener.heard[POSES]]
    assert passes[:20] == passes[20:40] == passes[40:] and len(passes) == 60
    ticks = [seconds(data) for _, data in listener.heard["/clock"]]
    assert sum(b < a for a, b in itertools.pairwise(ticks)) == 2


@pytest.mark.parametrize(
    "sent, arguments, expected",
    [(signal.SIGINT, ["--loop"], 0), (signal.SIGINT, [], 130), (signal.SIGTERM, ["--loop"], 0)],
)
def test_a_signal_ends_it_and_it_says_what_was_sent(listener, tmp_path, sent, arguments, expected):
    listener.listen(POSES, PoseStamped)
    status, said = play(
        listener,
        tmp_path,
        DEMO_BAG,
        "--topics",
        POSES,
        "--wait-s",
        HANG_S,
        *arguments,
        sent=sent,
        after=30,
    )
    assert status == expected
    count = int(re.search(r"(\d+) messages sent, interrupted", said)[1])
    assert len(listener.heard[POSES]) == count > 10 and "Traceback" not in said


def test_a_bag_of_another_tool_is_played(listener, tmp_path):
    listener.listen(WRIST, CompressedImage)
    status, _ = play(
        listener,
        tmp_path,
        OTHER_TOOL / "other_tool_zstd.mcap",
        "--topics",
        WRIST,
        "--wait-s",
        HANG_S,
    )
    images = [deserialize_message(data, CompressedImage) for _, data in listener.heard[WRIST]]
    assert (
        status == 0 and len(images) == 4 and all(bytes(i.data[:2]) == b"\xff\xd8" for i in images)
    )


def test_types_and_names_that_ros_has_not_are_left_out_by_name(tmp_path, capsys):
    def foreign(folder, with_fine):
        store = get_typestore(Stores.ROS2_HUMBLE)
        store.register(get_types_from_msg("uint8 a", "antigravity/msg/X"))
        with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as out:
            out.write(
                out.add_connection("/x", "antigravity/msg/X", typestore=store), 10**12, bytes(8)
            )
            if with_fine:
                text = bytes(serialize_message(String(data="x")))
                out.write(out.add_connection("/fine", STRING, typestore=store), 10**12, text)
        return str(folder)

    assert main(["replay", foreign(tmp_path / "some", True)]) == 0
    said = capsys.readouterr()
    assert (
        "1 messages sent" in said.out
        and "not played: /x: message type antigravity/msg/X is not installed" in said.err
    )
    for options in ([foreign(tmp_path / "all", False)], [str(tmp_path / "some"), "--topics", "/x"]):
        assert main(["replay", *options]) == 1
        said = capsys.readouterr()
        assert (
            len(said.err.splitlines()) == 1
            and "message type antigravity/msg/X is not installed here" in said.err
        )
    assert "antigravity" not in sys.modules
    named = text_bag(tmp_path / "named", [("/a b", 0, "x"), ("/a-b", 0, "x"), ("/fine", 0, "x")])
    assert main(["replay", str(named)]) == 0
    said = capsys.readouterr()
    assert "1 messages sent" in said.out and said.err.count("it is no name of a topic in ROS") == 2
    only = text_bag(tmp_path / "only", [("/a b", 0, "x"), ("/a-b", 0, "x")])
    assert main(["replay", str(only)]) == 1
    said = capsys.readouterr()
    assert (
        len(said.err.splitlines()) == 1
        and "has no topic that can be published here: /a b" in said.err
    )
    assert main(["replay", str(only), "--remap", "/a b:=/ab"]) == 0


def test_it_costs_little():
    """1,200 messages, 300 of them images, at four times the speed: less than what its start
    needs.
    """

    def cpu_s(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "vit_perception.cli.main", "replay", str(DEMO_BAG), *arguments],
            capture_output=True,
            timeout=PROGRAM_S,
            cwd=ROOT,
            env=os.environ,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    whole, start = cpu_s("--rate", "4"), cpu_s("--rate", "4", "--duration", "0.02")
    assert whole < 2 * start, f"{whole:.2f} s of CPU, {start:.2f} s of them to start"


def test_what_is_wrong_is_one_line_and_a_status(tmp_path, capsys):
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    for arguments, expected in (
        ([DEMO_BAG, "--start", "9"], "--start is 9 s; accepted: less than the 7.493 s"),
        ([DEMO_BAG, "--remap", "/a"], "--remap is '/a'; accepted: /from:=/to"),
        ([DEMO_BAG, "--remap", "/a:=/b"], "no topic /a; there are: /agentview/image/compressed"),
        ([DEMO_BAG, "--loop", "-1"], "--loop is -1; accepted: 1 or more"),
        ([DEMO_BAG, "--duration", "-1"], "--duration is -1.0; accepted: 0 or more"),
        (
            [DEMO_BAG, "--remap", f"{POSES}:=/a b"],
            "--remap is '/ee_pose:=/a b'; accepted: the name of a topic",
        ),
        ([DEMO_BAG, "--remap", f"{POSES}:=/a", f"{POSES}:=/b"], "/ee_pose is /a already"),
        (
            [DEMO_BAG, "--topics", POSES, "--remap", f"{WRIST}:=/y"],
            f"{WRIST} is not played; accepted: one of {POSES}",
        ),
        ([DEMO_BAG, "--rate", "inf"], "--rate is inf; accepted: more than 0, and finite"),
        ([DEMO_BAG, "--clock", "inf"], "--clock is inf; accepted: 0 or more, and finite"),
        ([DEMO_BAG, "--duration", "inf"], "--duration is inf; accepted: 0 or more, and finite"),
        ([tmp_path / "old.bag"], "old.bag is a recording of ROS 1; accepted: a rosbag2 folder"),
        ([tmp_path], "holds recordings of ROS 1 (old.bag); accepted: a rosbag2 folder"),
    ):
        # A traceback would come out of main.
        status, error = main(["replay", *map(str, arguments)]), capsys.readouterr().err
        assert status == 1 and expected in error and len(error.splitlines()) == 1, error
