"""Numbers of any message, by the definition that its bag records; hostile ones end quickly."""

import struct

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vit_perception.recordings.numbers.cdr_numbers import MOST_NUMBERS, NumberReader
from vit_perception.recordings.numbers.field_path import Step, parsed_path
from vit_perception.recordings.numbers.message_type import check_numeric, message_type
from vit_perception.recordings.storage import Channel, Definition, Unreadable

STORE = get_typestore(Stores.ROS2_KILTED)
ARM = """std_msgs/Header header
int8 FAST=1
bool[2] gripper_open
string<=8[<=3] labels
uint8 mode 3
float64[] position
my_msgs/Joint[] joints
my_msgs/Joint[2] pair
"""
JOINT = "string name\nfloat32 effort\nint64[3] counts\n"
STORE.register(get_types_from_msg(ARM, "my_msgs/msg/Arm"))
STORE.register(get_types_from_msg(JOINT, "my_msgs/msg/Joint"))
T = STORE.types


def channel(kind, encoding="ros2msg", text=None, digest=""):
    if text is None:
        text = STORE.generate_msgdef(kind, ros_version=2)[0]
    return Channel(1, "/a", Definition(kind, encoding, text), digest)


def reader(given, path=""):
    whole = message_type(given)
    check_numeric(whole, parsed_path(path))
    return NumberReader(whole, parsed_path(path))


def header(sec=7, nanosec=5):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](sec, nanosec), "base")


def joint(name, effort, start):
    return T["my_msgs/msg/Joint"](name, effort, np.arange(start, start + 3, dtype=np.int64))


def arm(little_endian=True):
    message = T["my_msgs/msg/Arm"](
        header=header(),
        FAST=1,
        gripper_open=np.array([True, False]),
        labels=["a", "longer", ""],
        mode=3,
        position=np.array([0.5, -1.5, 2.5, 3.5]),
        joints=[joint("shoulder", 1.5, 10), joint("", 2.5, 20), joint("x", 3.5, 30)],
        pair=[joint("ab", 4.5, 40), joint("c", 5.5, 50)],
    )
    return bytes(STORE.serialize_cdr(message, "my_msgs/msg/Arm", little_endian=little_endian))


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize(
    "path, expected",
    [
        ("position", [0.5, -1.5, 2.5, 3.5]),
        ("position[1:3]", [-1.5, 2.5]),
        ("position[-1]", [3.5]),
        ("position[9:]", []),
        ("gripper_open", [1, 0]),
        ("mode", [3]),
        ("joints[1].effort", [2.5]),
        ("joints[-1].counts[1]", [31]),
        ("joints[0:2].counts[0:2]", [10, 11, 20, 21]),
        ("pair[1].counts", [50, 51, 52]),
        ("header.stamp", [7, 5]),
    ],
)
def test_a_field_of_a_type_that_ros_does_not_have(path, expected, little_endian):
    found = reader(channel("my_msgs/msg/Arm"), path)
    assert found.numbers(arm(little_endian)).tolist() == expected
    assert found.stamp_ns(arm(little_endian)) == 7_000_000_005


def test_the_names_of_numbers_say_where_they_are():
    names, numbers = reader(channel("geometry_msgs/msg/TwistStamped")).names_and_numbers(
        bytes(
            STORE.serialize_cdr(
                T["geometry_msgs/msg/TwistStamped"](
                    header(),
                    T["geometry_msgs/msg/Twist"](
                        T["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0),
                        T["geometry_msgs/msg/Vector3"](4.0, 5.0, 6.0),
                    ),
                ),
                "geometry_msgs/msg/TwistStamped",
            )
        )
    )
    assert names[0] == "twist.linear.x" and names[5] == "twist.angular.z"
    assert numbers.tolist() == [1, 2, 3, 4, 5, 6]
    names, _ = reader(channel("my_msgs/msg/Arm"), "joints[0:2].counts[1:2]").names_and_numbers(
        arm()
    )
    assert names == ["joints[0].counts[1]", "joints[1].counts[1]"]


@pytest.mark.parametrize(
    "kind",
    [
        "std_msgs/msg/Float64MultiArray",
        "sensor_msgs/msg/JointState",
        "trajectory_msgs/msg/JointTrajectory",
        "sensor_msgs/msg/Imu",
    ],
)
def test_equal_to_the_library_on_standard_types(kind):
    """The reader of ROS's own definitions, field for field."""
    rng = np.random.default_rng(0)
    point = T["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=rng.random(3),
        velocities=rng.random(0),
        accelerations=rng.random(2),
        effort=rng.random(1),
        time_from_start=T["builtin_interfaces/msg/Duration"](1, 2),
    )
    vector = T["geometry_msgs/msg/Vector3"](*rng.random(3))
    dimension = T["std_msgs/msg/MultiArrayDimension"]("abc", 3, 3)
    message, path, expected = {
        "std_msgs/msg/Float64MultiArray": lambda: (
            T[kind](T["std_msgs/msg/MultiArrayLayout"]([dimension], 0), rng.random(3)),
            "data",
            lambda m: m.data,
        ),
        "sensor_msgs/msg/JointState": lambda: (
            T[kind](header(), ["a", "bcd"], rng.random(2), rng.random(0), rng.random(2)),
            "effort",
            lambda m: m.effort,
        ),
        "trajectory_msgs/msg/JointTrajectory": lambda: (
            T[kind](header(), ["joint"], [point, point]),
            "points[1].accelerations",
            lambda m: m.points[1].accelerations,
        ),
        "sensor_msgs/msg/Imu": lambda: (
            T[kind](
                header(),
                T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
                rng.random(9),
                vector,
                rng.random(9),
                vector,
                rng.random(9),
            ),
            "angular_velocity_covariance",
            lambda m: m.angular_velocity_covariance,
        ),
    }[kind]()
    data = bytes(STORE.serialize_cdr(message, kind))
    for given in (channel(kind), channel(kind, text="", digest=STORE.hash_rihs01(kind))):
        assert reader(given, path).numbers(data).tolist() == expected(message).tolist()


def test_a_definition_in_idl():
    text = """module m_msgs { module msg { struct Inner { sequence<double, 4> v; octet n; }; }; };
module m_msgs { module msg { typedef float pair__2[2];
  struct Outer { boolean on; pair__2 pair; m_msgs::msg::Inner inner; }; }; };"""
    data = bytes([0, 1, 0, 0, 1, 0, 0, 0]) + struct.pack("<ffIdB", 1.5, 2.5, 1, 3.5, 9)
    given = channel("m_msgs/msg/Outer", "ros2idl", text)
    assert reader(given).numbers(data).tolist() == [1, 1.5, 2.5, 3.5, 9]
    assert reader(given, "inner.n").numbers(data).tolist() == [9]
    with pytest.raises(Unreadable, match="@optional, which is not read"):
        reader(channel("m_msgs/msg/Outer", "ros2idl", text.replace("octet", "@optional octet")))


@pytest.mark.parametrize(
    "path, said",
    [
        ("", r"more than numbers \(labels, joints, pair\); accepted: gripper_open, mode, position"),
        ("labels", "labels is string"),
        ("joints", "joints is my_msgs/msg/Joint"),
        ("positon", r"no field positon \(did you mean 'position'\?\); accepted: gripper_open"),
        ("joints.effort", r"is an array; accepted: an index, as \[0\].effort"),
        ("mode[0]", "mode is no array"),
        ("mode.x", "uint8 has no field x"),
    ],
)
def test_what_is_no_number_is_refused_with_what_is(path, said):
    with pytest.raises(Unreadable, match=said):
        reader(channel("my_msgs/msg/Arm"), path)


def test_paths():
    assert parsed_path("a.b[2].c[1:-2]") == (
        Step("a"),
        Step("b", 2),
        Step("c", slice(1, -2)),
    )
    assert parsed_path("") == ()
    for text in ("a..b", ".a", "a[", "a[1:2:3]", "a[b]", "1a", "a b", "a" * 300, "a[99999999]"):
        with pytest.raises(Unreadable):
            parsed_path(text)


@pytest.mark.parametrize(
    "text, said",
    [
        ("a/B b", "is not defined"),
        ("h/X x", "holds itself"),
        ("float64 a\nfloat64 a", "two fields of one name"),
        ("float128 a", "is not defined"),
        ("wstring a", "is not defined"),
        ("float64[99999999999] a", "has `float64"),
        ("?!", "what is no field"),
        ("\n".join(f"uint8 f{k}" for k in range(2001)), "more than 2000 fields"),
        (
            "h/A0 a"
            + "".join(f"\n{'=' * 80}\nMSG: h/A{k}\nh/A{k + 1} a" for k in range(40))
            + f"\n{'=' * 80}\nMSG: h/A40\nuint8 a",
            "nested too deep",
        ),
    ],
)
def test_definitions_of_strangers_are_refused(text, said):
    with pytest.raises(Unreadable, match=said):
        reader(channel("h/msg/X", text=text))


def test_a_type_that_nobody_describes_is_refused():
    with pytest.raises(Unreadable, match="does not record the definition of my_msgs/msg/Other"):
        reader(channel("my_msgs/msg/Other", text=""))
    with pytest.raises(Unreadable, match="hash of sensor_msgs/msg/Imu is RIHS01_abc"):
        reader(channel("sensor_msgs/msg/Imu", text="", digest="RIHS01_abc"))


def body(*parts):
    return b"\0\1\0\0" + b"".join(parts)


def test_bytes_of_strangers_end_quickly():
    arrays = reader(channel("h/msg/X", text="float64[] a\nfloat64 b"), "b")
    with pytest.raises(Unreadable, match="ends after"):
        arrays.numbers(body(struct.pack("<I", 0xFFFFFFFF), bytes(12)))
    with pytest.raises(Unreadable, match="ends after"):
        arrays.numbers(body(b"\1"))
    for data in (b"", b"\0\7\0\0" + bytes(50), b"\1\1\0\0" + bytes(50)):
        with pytest.raises(Unreadable, match="does not begin as CDR"):
            arrays.numbers(data)
    # Two kinds of bombs: 4,000,000 empty texts before the field, and types that double 31 times.
    texts = reader(channel("h/msg/X", text="string[] a\nfloat64 b"), "b")
    with pytest.raises(Unreadable, match="more than 200000 parts"):
        texts.numbers(body(struct.pack("<I", 4_000_000), bytes(16_000_000)))
    doubling = "h/A0 a\nfloat64 b" + "".join(
        f"\n{'=' * 80}\nMSG: h/A{k}\nh/A{k + 1} a\nh/A{k + 1} b" for k in range(29)
    )
    doubling += f"\n{'=' * 80}\nMSG: h/A29\nuint8 a"
    for path in ("b", ""):
        with pytest.raises(Unreadable, match="more than 200000 parts|4097 numbers or more"):
            reader(channel("h/msg/X", text=doubling), path).numbers(body(bytes(4_000_000)))
    many = reader(channel("h/msg/X", text="uint8[] a"))
    data = body(struct.pack("<I", MOST_NUMBERS + 1), bytes(MOST_NUMBERS + 1))
    with pytest.raises(Unreadable, match=r"4097 numbers or more; accepted: at most 4096"):
        many.numbers(data)
    assert len(reader(channel("h/msg/X", text="uint8[] a"), "a[0:9]").numbers(data)) == 9


def test_every_cut_of_a_message_is_refused_or_read_right():
    """No cut reads beyond the end, and none gives other numbers."""
    found = reader(channel("my_msgs/msg/Arm"), "joints[2].counts")
    whole = arm()
    for length in range(len(whole)):
        try:
            assert found.numbers(whole[:length]).tolist() == [30, 31, 32]
        except Unreadable:
            continue


def test_a_stamp_that_is_none_is_zero():
    kind = "my_msgs/msg/Arm"
    found = reader(channel(kind), "mode")
    for sec, nanosec in ((0, 0), (-3, 5), (5, 1_000_000_000)):
        data = body(struct.pack("<iI", sec, nanosec))
        assert found.stamp_ns(data) == 0
    assert reader(channel("std_msgs/msg/Float64")).has_header is False
    # A header of another shape is none.
    ros1 = f"std_msgs/Header header\nuint8 a\n{'=' * 80}\nMSG: std_msgs/Header\nuint32 seq\n"
    assert reader(channel("h/msg/X", text=ros1), "a").has_header is False
