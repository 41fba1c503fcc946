"""The lines of doctor about the graph, and about shared memory."""

import re

import pytest

from test.conftest import ROOT
from test.ros.suggest.topics import graph, image, jpeg, pose, refused, silent
from vit_perception.ros.suggest.choice import RAW
from vit_perception.ros.suggest.findings import graph_lines
from vit_perception.ros.suggest.seen import Mismatch
from vit_perception.ros.suggest.shared_memory import (
    DEFAULT_SEGMENT_BYTES,
    Segment,
    free_bytes,
    memory_lines,
    segment_of,
)

GB = 10**9
DEFAULT = Segment(DEFAULT_SEGMENT_BYTES, DEFAULT_SEGMENT_BYTES, False)


def test_each_topic_has_a_line():
    lines = graph_lines(
        graph(
            jpeg("/wrist/image/compressed", 20.0),
            pose("/ee_pose"),
            silent("/goal_pose", "geometry_msgs/msg/PoseStamped"),
            refused("/depth", RAW, "encoding is '16UC1'"),
            encoders=("/vit_encoder",),
        ),
        None,
    )
    assert lines == [
        "graph        4 topics for the node on ROS domain 7; /vit_encoder is running",
        "             /depth: raw image, left out: encoding is '16UC1'",
        "             /wrist/image/compressed: compressed image, 640×480 jpeg, 20 Hz, /driver "
        "(reliable, volatile)",
        "             /ee_pose: pose, 100 Hz, /driver (reliable, volatile)",
        "             /goal_pose: pose, left out: no message came",
        "QoS          every publisher matches every subscription",
        *[line for line in lines if line.startswith(("clocks", "             all"))],
    ]


def test_an_empty_graph_is_one_line_and_that_nothing_is_wrong():
    lines = graph_lines(graph(), DEFAULT)
    assert lines[0] == (
        "graph        no camera, pose, joint state or wrench is published on ROS domain 7"
    )
    assert [line[:6] for line in lines] == ["graph ", "QoS   ", "memory"]


def test_qos_that_does_not_fit_is_named_with_the_cure():
    pair = Mismatch("/a", "/driver", "/policy", "Best effort and reliable", "subscribe best effort")
    lines = graph_lines(graph(image("/a"), mismatches=(pair,)), None)
    assert (
        "QoS          WARNING: /a: nothing goes from /driver to /policy: Best effort and reliable; "
        "subscribe best effort" in lines
    )


def test_images_that_get_lost_are_told():
    slow = image("/a", 30.0)
    for place, arrival in enumerate(list(slow.arrivals)):
        slow.arrivals[place] = arrival._replace(wall_ns=3 * place * 33_000_000)
    assert any(
        "10.1 Hz arrive here: the others are lost" in x for x in graph_lines(graph(slow), None)
    )
    assert not any("arrive here" in x for x in graph_lines(graph(image("/a")), None))


def test_texts_of_strangers_are_escaped_and_cut():
    lines = graph_lines(graph(refused("/a", RAW, "\x1b[2J\n" + "x" * 9999)), None)
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_the_segment_is_that_of_the_profile(tmp_path):
    profile = ROOT / "config/fastdds_large_data.xml"
    assert segment_of({"P": str(profile)}, ("Q", "P")) == Segment(33554432, 16777216, True)
    for path in ("", str(tmp_path), str(tmp_path / "none"), str(ROOT / "LICENSE")):
        assert segment_of({"P": path}, ("P",)) == DEFAULT
    big = tmp_path / "big.xml"
    big.write_text("<segment_size>7</segment_size>" + " " * (1 << 20))
    assert segment_of({"P": str(big)}, ("P",)) == DEFAULT


@pytest.mark.parametrize(
    "segment, largest_bytes, free, warnings",
    [
        (DEFAULT, 0, (GB, GB), []),
        (DEFAULT, 500_000, (GB, GB), []),
        (DEFAULT, 921_600, (GB, GB), ["0.9 MB, and 0.5 MB go .* config/fastdds_large_data.xml"]),
        (DEFAULT, 0, (1_000_000, 64_000_000), ["room for 1 more processes"]),
        (Segment(33554432, 16777216, True), 921_600, (GB, GB), []),
        (
            Segment(33554432, 16777216, True),
            24_883_200,
            (50_000_000, 64_000_000),
            ["room for 1 more processes.*option shm-size.*segment_size", "Raise segment_size"],
        ),
    ],
)
def test_what_shared_memory_has_room_for(segment, largest_bytes, free, warnings):
    first, *others = memory_lines(segment, largest_bytes, "/a", free)
    assert "free in /dev/shm; each process takes " in first
    assert len(others) == len(warnings)
    for line, warning in zip(others, warnings, strict=True):
        assert line.startswith("WARNING: ")
        assert re.search(warning, line), line


def test_where_there_is_no_such_folder_it_says_so(tmp_path):
    assert memory_lines(DEFAULT, 0, "", None) == ["no /dev/shm here"]
    assert free_bytes(tmp_path / "none") is None
    free, total = free_bytes(tmp_path)
    assert 0 <= free <= total
