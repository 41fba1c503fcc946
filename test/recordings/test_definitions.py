"""Recorded message definitions: equal to ROS's in whatever form, or another type by name; never
computed, never run.
"""

import pytest

from vit_perception.recordings.definitions import (
    MOST_DEFINITION_BYTES,
    deserialised,
    difference,
    typestore,
    why_not_readable,
)
from vit_perception.recordings.storage import Channel, Definition, Unreadable

IMAGE, M = "sensor_msgs/msg/Image", 1 << 20
TYPES = [
    IMAGE,
    "sensor_msgs/msg/CompressedImage",
    "geometry_msgs/msg/PoseStamped",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/String",
    "sensor_msgs/msg/CameraInfo",
    "std_msgs/msg/Empty",
    "vision_msgs/msg/Classification",
]
MSG = typestore().generate_msgdef(IMAGE, ros_version=2)[0]
SEPARATOR = "=" * 80 + "\n"
STAMP_IDL = (
    SEPARATOR
    + """IDL: builtin_interfaces/msg/Time
module builtin_interfaces { module msg {
  @verbatim (language="comment", text="a { b ; (c" "\\"d")
  struct Time { int32 sec; uint32 nanosec; }; }; };
"""
)
HEADER_IDL = (
    SEPARATOR
    + """IDL: std_msgs/msg/Header
#include "builtin_interfaces/msg/Time.idl"
module std_msgs { module msg {
  /* two
     lines { */
  struct Header { @key builtin_interfaces::msg::Time stamp; string frame_id; }; }; };
"""
)
IMAGE_IDL = (
    SEPARATOR
    + """IDL: sensor_msgs/msg/Image
#include "std_msgs/msg/Header.idl"
module sensor_msgs { module msg {
  module Image_Constants { const long X = 1 << 3; };
  typedef sequence<octet> bytes;
  struct Image {
    std_msgs::msg::Header header;  // a comment; with {
    unsigned long height; unsigned long width;
    string<256> encoding; octet is_bigendian; uint32 step;
    @unit (value="px")
    bytes data;
  }; }; };
"""
)
IDL = IMAGE_IDL + HEADER_IDL + STAMP_IDL
INFO_IDL = """module sensor_msgs { module msg { typedef double double__9[9]; struct CameraInfo {
  std_msgs::msg::Header header; uint32 height; uint32 width; string distortion_model; sequence<double> d;
  double__9 k; double__9 r; double p[12]; uint32 binning_x; uint32 binning_y;
  sensor_msgs::msg::RegionOfInterest roi; }; }; };"""  # noqa: E501


def channel(definition, encoding="ros2msg", kind=IMAGE, digest=""):
    return Channel(1, "/a", Definition(kind, encoding, definition), digest)


@pytest.mark.parametrize("kind", TYPES)
def test_what_the_library_writes_is_ros_s(kind):
    assert not why_not_readable(
        channel(typestore().generate_msgdef(kind, ros_version=2)[0], kind=kind)
    )
    assert not why_not_readable(channel("", digest=typestore().hash_rihs01(kind), kind=kind))


@pytest.mark.parametrize(
    "definition",
    [
        MSG,
        MSG.replace("\n", "\r\n"),
        "# comment = x\n" + MSG.replace("step", "step  # in bytes = 5"),
        MSG.split("=")[0],
        "uint8 LIMIT=5\nstring NAME = a # b\n" + MSG,
        MSG.replace("uint8[]", "byte[<=100]"),
        MSG.replace("std_msgs/Header", "Header"),
        MSG.replace("std_msgs/", "std_msgs/msg/"),
        MSG.replace("width", "width 640"),
    ],
)
def test_the_same_in_other_words_is_ros_s(definition):
    assert not why_not_readable(channel(definition))


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (IDL, IMAGE),
        (IMAGE_IDL, IMAGE),
        (IDL.replace(SEPARATOR, ""), IMAGE),
        (INFO_IDL, "sensor_msgs/msg/CameraInfo"),
    ],
)
@pytest.mark.parametrize("encoding", ["ros2idl", "omgidl"])
def test_idl_is_read_as_msg_is(definition, kind, encoding):
    assert not why_not_readable(channel(definition, encoding, kind))


@pytest.mark.parametrize(
    ("definition", "encoding", "why"),
    [
        (
            MSG.replace("uint32 height", "string height"),
            "ros2msg",
            "`string height` where ROS has `uint32 height`",
        ),
        (
            MSG.replace("uint8[] data", "float64[] data"),
            "ros2msg",
            "`float64[] data` where ROS has `uint8[] data`",
        ),
        (MSG.replace("uint8[] data", "uint8[9] data"), "ros2msg", "`uint8[9] data` where ROS"),
        (MSG.replace("uint8[] data", "uint8 data"), "ros2msg", "`uint8 data` where ROS"),
        (
            MSG.replace("std_msgs/Header header\n", ""),
            "ros2msg",
            "`uint32 height` where ROS has `std_msgs/msg/Header header`",
        ),
        (
            MSG.replace("int32 sec", "int64 sec"),
            "ros2msg",
            "builtin_interfaces/msg/Time has `int64 sec`",
        ),
        (
            MSG.replace("string frame_id", "uint8[] frame_id"),
            "ros2msg",
            "std_msgs/msg/Header has `uint8[] frame_id`",
        ),
        (
            MSG.replace("uint32 step", "uint32 steps"),
            "ros2msg",
            "`uint32 steps` where ROS has `uint32 step`",
        ),
        (MSG.split("=")[0] + "uint8 more\n", "ros2msg", "`uint8 more` where ROS has nothing"),
        ("uint8 x; import os\n" + MSG, "ros2msg", "`uint8 x` where ROS"),
        ("]]]\x1b[2J" + MSG, "ros2msg", "what is no field"),
        (
            IDL.replace("unsigned long height", "string height"),
            "ros2idl",
            "`string height` where ROS",
        ),
        (
            IDL.replace("bytes data", "sequence<sensor_msgs::msg::Image> data"),
            "ros2idl",
            "`sensor_msgs/msg/Image[] data`",
        ),
        (
            IDL.replace("int32 sec", "int64 sec"),
            "ros2idl",
            "builtin_interfaces/msg/Time has `int64 sec`",
        ),
        (
            IDL.replace("<octet>", "<octet, (1 << 34000000000)>").replace(
                "bytes data", "bytes data[1<<34000000000]"
            ),
            "ros2idl",
            "where ROS",
        ),
        ("", "jsonschema", ""),
        ("{}", "jsonschema", "is written in 'jsonschema'"),
        (MSG, "ros1msg", "is written in 'ros1msg'"),
        (HEADER_IDL, "ros2idl", "does not define it"),
        (" " * MOST_DEFINITION_BYTES + MSG, "ros2msg", "more than 1048576 char"),
    ],
)
def test_another_type_of_the_same_name_is_named_by_its_first_difference(definition, encoding, why):
    said = why_not_readable(channel(definition, encoding))
    assert why in said and bool(said) == bool(why) and said.isprintable() and len(said) < 700


def test_a_hash_of_another_type_is_named():
    other = typestore().hash_rihs01("std_msgs/msg/String")
    assert f"hash of {IMAGE} is {other}" in why_not_readable(channel("", digest=other))
    assert not why_not_readable(
        channel("", digest="RIHS01_" + "0" * 64)
    )  # a middleware that has none


def test_an_unknown_type_is_not_looked_at():
    unknown = channel("1 << " * 100_000, "ros2idl", "my_msgs/msg/T")
    assert why_not_readable(
        unknown
    ) == "its type my_msgs/msg/T is none that is read here" and not difference(unknown)


@pytest.mark.parametrize(
    "bomb",
    [
        "const long X = 1 << 34000000000;",
        "(" * M,
        "{" * M,
        "[" * M,
        "/*" * (M // 2),
        '"\\"' * (M // 3),
        "@a(" * (M // 3),
        "module a {" * (M // 11),
        "struct Image { Image x; };" * (M // 27),
        "typedef a b;" * (M // 12),
        "sequence<" * (M // 9),
        "string<=" * (M // 8),
        "a[<=" * (M // 4),
        "uint8[99999999999] x\n" * (M // 21),
        "=" * M,
        ("=" * 10 + "\n") * (M // 11),
        "\n" * M,
        "\\" * M,
        "'" * M,
        "#" * M,
        "MSG: a/b\n" * (M // 9),
    ],
    ids=lambda bomb: repr(bomb[:8]),
)
@pytest.mark.parametrize("encoding", ["ros2msg", "ros2idl"])
def test_a_bomb_is_another_type(bomb, encoding):
    assert why_not_readable(channel(bomb[:M], encoding))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\1\0\0",
        b"\xff" * 64,
        b"\0\1\0\0" + b"\xff" * 64,
        b"\0\3\0\0" + bytes(64),
        b"\0\1\0\0" + bytes(12) + b"\xff\xff\xff\xff" + bytes(100),
    ],
)
@pytest.mark.parametrize("kind", TYPES)
def test_bytes_that_are_no_message_say_so(data, kind):
    message = deserialised(data, kind)
    assert (isinstance(message, Unreadable) and str(message).isprintable()) or not isinstance(
        message, Unreadable
    )
    if len(data) < 4 or data[0] == 255:
        assert isinstance(message, Unreadable)
