"""MCAP files of strangers: what can be read is read, and what would fill the memory is refused by
name.
"""

import struct

import lz4.frame
import pytest
from rosbags.rosbag2.reader import zstd

from test.recordings.mcap import parts as m
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.mcap import chunks
from vit_perception.recordings.reader import BagError, BagReader, Undecodable

TEXT, S = "std_msgs/msg/String", 1_700_000_000_000_000_000
HELLO = b"\0\1\0\0\6\0\0\0hello\0"
DESCRIBED = m.schema(1, TEXT, data="string data\n") + m.channel(1, 1, "/a")
BEGIN = len(m.header())


def one_chunk(messages, described=DESCRIBED):
    """A chunk, and what a summary says of it."""
    chunk = m.chunk_of(messages)
    size = len(chunk) - 9 - 40
    stamps = [stamp_ns for _, stamp_ns, _ in messages]
    return chunk, described + m.index(min(stamps), max(stamps), BEGIN, len(chunk), size, size)


def texts(path, topics=("/a",)):
    with BagReader(path) as bag:
        return [message.data for _, _, message in bag.messages(topics)]


@pytest.mark.parametrize(
    ("schema", "encoding", "why"),
    [
        (
            m.schema(2, "Battery", "jsonschema", '{"type": "object"}'),
            "json",
            "its messages are 'json' of type 'Battery'",
        ),
        (
            m.schema(2, "foxglove.Scene", "protobuf", b"\x0a\xff"),
            "protobuf",
            "'protobuf' of type 'foxglove.Scene', not CDR",
        ),
        (m.schema(2, "os.path/msg/X"), "cdr", "its type 'os.path/msg/X' is none of ROS 2"),
        (
            m.schema(2, 'a/msg/X"\nimport os'),
            "cdr",
            "its type 'a/msg/X\" import os' is none of ROS 2",
        ),
        (b"", "cdr", "its type ''"),
    ],
)
def test_a_foreign_channel_is_left_out_by_name_and_the_others_are_read(
    tmp_path, schema, encoding, why
):
    described = DESCRIBED + schema + m.channel(2, 2, "/foreign", encoding)
    chunk, summary = one_chunk([(1, S, HELLO), (2, S + 1, b"{}"), (1, S + 2, HELLO)], described)
    path = m.write(tmp_path / "bag.mcap", chunk, summary + m.statistics({1: 2, 2: 1}, S, S + 2, 1))
    assert texts(path) == ["hello"] * 2
    with BagReader(path) as bag:
        (left_out,) = bag.left_out
        assert (set(bag.topics), left_out.topic, left_out.count) == (
            {"/a"},
            "/foreign",
            1,
        ) and why in left_out.why
        with pytest.raises(BagError, match="has no topic /foreign that is read .*; there are: /a"):
            bag.type_of("/foreign")


def test_an_unreadable_type_does_not_keep_the_others_from_being_read(tmp_path):
    described = (
        DESCRIBED + m.schema(2, "my_msgs/msg/T", data="wstring<=5 b\n") + m.channel(2, 2, "/t")
    )
    chunk, summary = one_chunk([(1, S, HELLO), (2, S + 1, HELLO)], described)
    path = m.write(tmp_path / "bag.mcap", chunk, summary)
    with BagReader(path) as bag:
        found = {topic: message for topic, _, message in bag.messages(["/a", "/t"], tell=["/t"])}
        assert found["/a"].data == "hello" and isinstance(found["/t"], Undecodable)
        assert "its type my_msgs/msg/T is none that is read here" in found["/t"].text
        assert [raw.data for raw in bag.raw(["/t"])] == [HELLO]  # who has the type can read it


@pytest.mark.parametrize("profile", ["ros2", "", "mine"])
def test_a_file_without_a_summary_is_read_in_the_order_of_time(tmp_path, profile):
    data = m.chunk_of(
        [(1, S + 5, b"\0\1\0\0\2\0\0\0c\0"), (1, S + 3, b"\0\1\0\0\2\0\0\0b\0")], DESCRIBED
    )
    data += m.chunk_of([(1, S + 1, b"\0\1\0\0\2\0\0\0a\0"), (1, S + 9, b"\0\1\0\0\2\0\0\0d\0")])
    path = m.write(tmp_path / "bag.mcap", data, begin=m.header(profile))
    assert texts(path) == ["a", "b", "c", "d"]
    with BagReader(path) as bag:
        assert (bag.count("/a"), bag.start_ns, bag.end_ns) == (4, S + 1, S + 10)


@pytest.mark.parametrize("summary", [b"", DESCRIBED, DESCRIBED + m.statistics({1: 2}, S, S + 1, 0)])
def test_messages_outside_of_chunks_are_read(tmp_path, summary):
    path = m.write(
        tmp_path / "bag.mcap",
        DESCRIBED + m.message(1, S, HELLO) + m.message(1, S + 1, HELLO),
        summary,
    )
    assert texts(path) == ["hello"] * 2
    with BagReader(path) as bag:
        assert (bag.count("/a"), bag.start_ns, bag.end_ns) == (2, S, S + 2)


def test_messages_in_and_outside_of_chunks_are_merged(tmp_path):
    data = DESCRIBED + m.message(1, S + 1, HELLO) + m.chunk_of([(1, S, HELLO), (1, S + 2, HELLO)])
    with BagReader(m.write(tmp_path / "bag.mcap", data)) as bag:
        assert [raw.stamp_ns for raw in bag.raw(["/a"])] == [S, S + 1, S + 2]


ZEROS = bytes(1 << 24)
BOMBS = {"zstd": zstd.compress(ZEROS), "lz4": lz4.frame.compress(ZEROS)}


@pytest.mark.parametrize("compression", list(BOMBS))
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("size", [100, 1 << 40, (1 << 64) - 1])
def test_a_chunk_unpacks_to_no_more_than_it_says_and_no_more_than_is_accepted(
    tmp_path, compression, indexed, size
):
    bomb = BOMBS[compression]
    chunk = m.chunk(S, S, bomb, size, compression)
    index = DESCRIBED + m.index(S, S, BEGIN, len(chunk), len(bomb), size, compression)
    path = m.write(
        tmp_path / "bag.mcap", chunk if indexed else DESCRIBED + chunk, index if indexed else b""
    )
    with pytest.raises(BagError, match="should have 100 bytes has more|accepted: at most 256 MiB"):
        texts(path)


def test_chunks_that_unpack_to_much_more_than_the_file_has_are_refused(tmp_path):
    bomb = zstd.compress(ZEROS)
    chunk = m.chunk(S, S, bomb, len(ZEROS), "zstd")
    places = (BEGIN + k * len(chunk) for k in range(65))
    index = b"".join(
        m.index(S, S, place, len(chunk), len(bomb), len(ZEROS), "zstd") for place in places
    )
    path = m.write(tmp_path / "bag.mcap", chunk * 65, DESCRIBED + index)
    with pytest.raises(BagError, match="its chunks unpack to more than 1024 MiB"):
        BagReader(path)


def test_chunks_that_all_overlap_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "MOST_OPEN_BYTES", 1 << 20)
    chunk = m.chunk_of([(1, S, bytes(100_000)), (1, S + 100, bytes(100_000))])
    index = b"".join(
        m.index(S, S + 100, BEGIN + k * len(chunk), len(chunk), len(chunk) - 49, len(chunk) - 49)
        for k in range(20)
    )
    path = m.write(tmp_path / "bag.mcap", chunk * 20, DESCRIBED + index)
    with (
        BagReader(path) as bag,
        pytest.raises(BagError, match="more than 1 MiB of chunks overlap in time"),
    ):
        list(bag.raw(["/a"]))


CHUNK, SUMMARY = one_chunk([(1, S, HELLO)])
SIZE = len(CHUNK) - 49


@pytest.mark.parametrize(
    ("data", "summary", "why"),
    [
        (
            CHUNK,
            SUMMARY + m.index(S, S, BEGIN, len(CHUNK), SIZE, SIZE),
            "stands within another one",
        ),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, BEGIN + 1, len(CHUNK), SIZE, SIZE),
            "stands within another one, or outside",
        ),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, 0, len(CHUNK), SIZE, SIZE),
            "stands within another one, or outside",
        ),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, 1 << 50, len(CHUNK), SIZE, SIZE),
            "stands within another one, or outside",
        ),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, BEGIN, 1 << 60, SIZE, SIZE),
            "stands within another one, or outside",
        ),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, BEGIN, len(CHUNK), SIZE, SIZE + 1),
            "has another chunk at",
        ),
        (CHUNK, DESCRIBED + m.index(S, S, BEGIN, len(CHUNK) - 1, SIZE, SIZE), "where none is"),
        (DESCRIBED, DESCRIBED + m.index(S, S, BEGIN, len(DESCRIBED), 1, 1), "where none is"),
        (
            CHUNK,
            DESCRIBED + m.index(S, S, BEGIN, len(CHUNK), SIZE, SIZE, "rar"),
            "has another chunk at",
        ),
        (m.record(9, b"", 1 << 62), b"", "is no record, or one of 4611686018427387904 bytes"),
        (m.record(12, b"x", 1 << 40), b"", "is no record, or one of"),
        (bytes(100), b"", "is no record"),
        (b"\x05", b"", "is cut off"),
        (m.record(5, b"123"), b"", "shorter than its fields"),
        (CHUNK, DESCRIBED + m.record(11, b""), "shorter than its fields"),
        (CHUNK, m.record(3, b"\1\0"), "shorter than"),
        (CHUNK, m.record(4, struct.pack("<HH", 1, 1) + m.text(b"\xff\xfe")), "is no UTF-8"),
        (m.chunk(S, S, b"\1", 1), b"", "ends within a record"),
        (m.chunk(S, S, bytes(9), 9), b"", "is no record of it"),
        (m.chunk(S, S, CHUNK, len(CHUNK)), b"", "is no record of it"),
        (m.chunk(S, S, b"1", 1, "rar"), b"", "with 'rar'"),
        (m.chunk(S, S, DESCRIBED, len(DESCRIBED), checksum=7), b"", "does not have the checksum"),
        (m.chunk(S, S, b"no zstd", 7, "zstd"), b"", "cannot be unpacked"),
        (m.chunk(S, S, zstd.compress(DESCRIBED)[:-3], len(DESCRIBED), "zstd"), b"", "cut off|has"),
        (
            CHUNK,
            SUMMARY + m.statistics({1: 1}, 0, 1 << 63, 1),
            "accepted: 0 to 9223372036854775806",
        ),
        (CHUNK, SUMMARY + m.statistics({1: 1}, S, S - 1, 1), "its messages are of"),
        (
            DESCRIBED + m.message(1, (1 << 64) - 1, HELLO),
            b"",
            "its messages are of 18446744073709551615",
        ),
    ],
)
def test_what_stands_in_the_wrong_place_or_is_too_long_is_one_line(tmp_path, data, summary, why):
    path = m.write(tmp_path / "bag.mcap", data, summary)
    with pytest.raises(BagError, match=why) as caught, BagReader(path) as bag:
        list(bag.raw(["/a"]))
    assert (
        str(path) in str(caught.value)
        and "\n" not in str(caught.value)
        and len(str(caught.value)) < 700
    )


@pytest.mark.parametrize("record", [m.message(1, S, HELLO), m.record(0x7F, b"")])
@pytest.mark.parametrize("indexed", [True, False])
def test_millions_of_records_in_a_few_kilobytes_are_refused(tmp_path, record, indexed):
    body = record * 1_000_000
    bomb = zstd.compress(body)
    chunk = m.chunk(S, S, bomb, len(body), "zstd")
    index = DESCRIBED + m.index(S, S, BEGIN, len(chunk), len(bomb), len(body), "zstd")
    path = m.write(
        tmp_path / "bag.mcap", chunk if indexed else DESCRIBED + chunk, index if indexed else b""
    )
    with pytest.raises(BagError, match="records are packed in [0-9]+ bytes"):
        texts(path)


def test_a_message_whose_time_is_none_ends_the_reading_in_one_line(tmp_path):
    chunk = m.chunk_of([(1, 1 << 63, HELLO)])
    summary = DESCRIBED + m.index(S, S, BEGIN, len(chunk), len(chunk) - 49, len(chunk) - 49)
    with (
        BagReader(m.write(tmp_path / "bag.mcap", chunk, summary)) as bag,
        pytest.raises(BagError, match="is of 92233"),
    ):
        list(bag.raw(["/a"]))


def test_messages_outside_of_the_times_that_their_chunk_says_are_not_lost(tmp_path):
    chunk = m.chunk(
        S, S, body := m.message(1, S - 7, HELLO) + m.message(1, S + 7, HELLO), len(body)
    )
    path = m.write(
        tmp_path / "bag.mcap",
        chunk,
        DESCRIBED + m.index(S, S, BEGIN, len(chunk), len(body), len(body)),
    )
    assert texts(path) == ["hello"] * 2


def test_fewer_messages_than_the_statistics_count_are_said(tmp_path, caplog):
    chunk, summary = one_chunk([(1, S, HELLO)])
    path = m.write(tmp_path / "bag.mcap", chunk, summary + m.statistics({1: 5}, S, S, 1))
    with BagReader(path) as bag:
        assert len(list(bag.raw(["/a"]))) == 1 and bag.shortfall == {"/a": (5, 1)}
    assert "it says that /a has 5 messages, and 1 are there" in caplog.text


def test_where_nothing_is_counted_nothing_is_missing(tmp_path):
    with BagReader(m.write(tmp_path / "bag.mcap", CHUNK, SUMMARY)) as bag:
        assert len(list(bag.raw(["/a"]))) == 1 and not bag.shortfall


def test_a_bag_of_40_000_topics_is_refused(tmp_path):
    channels = b"".join(m.channel(k, 1, f"/t{k}") for k in range(1, 40_001))
    path = m.write(tmp_path / "bag.mcap", CHUNK, DESCRIBED + channels + SUMMARY)
    with pytest.raises(BagError, match="it has more than 2000 topics"):
        BagReader(path)


def test_an_error_names_a_few_of_many_topics(tmp_path):
    channels = b"".join(m.channel(k, 1, f"/topic_{k}") for k in range(2, 1500))
    path = m.write(tmp_path / "bag.mcap", CHUNK, DESCRIBED + channels + SUMMARY)
    with BagReader(path) as bag, pytest.raises(BagError, match="and 1479 more") as caught:
        bag.type_of("/none")
    assert len(str(caught.value)) < 1000


def test_a_topic_name_of_terminal_commands_or_a_megabyte_is_left_out(tmp_path):
    described = DESCRIBED + m.channel(2, 1, "/\x1b[2J") + m.channel(3, 1, "/" + "x" * 1_000_000)
    chunk, summary = one_chunk([(1, S, HELLO), (2, S, HELLO)], described)
    with BagReader(m.write(tmp_path / "bag.mcap", chunk, summary)) as bag:
        assert set(bag.topics) == {"/a"} and all(
            e.topic.isprintable() and len(e.topic) < 250 for e in bag.left_out
        )


@pytest.mark.parametrize(
    "said",
    [
        "a: &a [*a]",
        "[" * 1000,
        "- " + "9" * 500,
        "- 5",
        "x",
        "{}",
        "- {history: 1, depth: -1, reliability: 1, durability: 1, liveliness: 1, "
        "deadline: {sec: 0, nsec: 0}, lifespan: {sec: 0, nsec: 0}, "
        "liveliness_lease_duration: {sec: x, nsec: 0}, avoid_ros_namespace_conventions: 1}",
    ],
)
def test_what_is_no_qos_profile_is_named_and_the_messages_are_read(tmp_path, said):
    described = m.schema(1, TEXT) + m.channel(1, 1, "/a", said={"offered_qos_profiles": said})
    chunk, summary = one_chunk([(1, S, HELLO)], described)
    with BagReader(m.write(tmp_path / "bag.mcap", chunk, summary)) as bag:
        assert len(list(bag.messages(["/a"]))) == 1
        with pytest.raises(InvalidValue):
            bag.qos_of("/a")
