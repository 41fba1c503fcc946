"""One battery for every format of recordings: the same messages, the same refusals, in one line."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionMode

from test.conftest import DEMO_BAG
from test.recordings.formats import FORMATS, OTHER_TOOL, STORE, Format, Message, file_of, recorded
from vit_perception.recordings.reader import BagError, BagReader, Undecodable

TOPICS = ["/wrist/image/compressed", "/ee_pose"]
TEXT, T0 = "std_msgs/msg/String", 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def truth() -> list[Message]:
    with BagReader(DEMO_BAG) as bag:
        raw = bag.raw(TOPICS, stop_ns=bag.start_ns + 200_000_000)
        return [Message(m.topic, m.type_name, m.stamp_ns, m.data) for m in raw]


def read(path: Path, *span_ns: int | None) -> list[Message]:
    with BagReader(path) as bag:
        raw = bag.raw(list(bag.topics), *span_ns)
        return [Message(m.topic, m.type_name, m.stamp_ns, m.data) for m in raw]


def text(k: int, content: str | None = None) -> Message:
    message = STORE.types[TEXT](str(k) if content is None else content)
    return Message("/a", TEXT, T0 + k, bytes(STORE.serialize_cdr(message, TEXT)))


def check_same_messages(form: Format, folder: Path, truth: list[Message]):
    for version in (8, 9):
        path = recorded(folder / f"{version}", truth, form, version)
        assert read(path) == truth
        with BagReader(path) as bag:
            assert bag.topics.keys() == set(TOPICS) and not bag.left_out
            for row in bag.topics.values():
                messages = [m for m in truth if m.topic == row.name]
                assert (row.type_name, row.count) == (messages[0].type_name, len(messages))
            assert (bag.start_ns, bag.end_ns) == (truth[0].stamp_ns, truth[-1].stamp_ns + 1)
            assert bag.qos_of("/ee_pose") == []


def check_single_file(form: Format, folder: Path, truth: list[Message]):
    """A file that is packed as a whole is read through its folder alone."""
    file = file_of(recorded(folder / "bag", truth, form))
    if form.mode is CompressionMode.FILE:
        with pytest.raises(BagError, match="is no bag; accepted: "):
            BagReader(file)
    else:
        assert read(file) == truth


def check_second_pass(form: Format, folder: Path, truth: list[Message]):
    with BagReader(recorded(folder / "bag", truth, form)) as bag:
        passes = [[m.data for m in bag.raw(TOPICS)] for _ in range(2)]
    assert passes == [[m.data for m in truth]] * 2


def check_part_by_time(form: Format, folder: Path, truth: list[Message]):
    path = recorded(folder / "bag", truth, form)
    start_ns = truth[10].stamp_ns
    stop_ns = truth[20].stamp_ns
    for span_ns in [(start_ns, stop_ns), (start_ns, None), (None, stop_ns), (stop_ns + 10**12,)]:
        low_ns, high_ns = (*span_ns, None)[:2]
        expected = [
            m
            for m in truth
            if (low_ns is None or m.stamp_ns >= low_ns)
            and (high_ns is None or m.stamp_ns < high_ns)
        ]
        assert read(path, *span_ns) == expected


def check_truncated(form: Format, folder: Path, truth: list[Message]):
    path = recorded(folder / "bag", truth, form)
    file = file_of(path)
    whole = file.read_bytes()
    for kept in (0.0, 0.1, 0.5, 0.95):
        file.write_bytes(whole[: int(len(whole) * kept)])
        refused_in_one_line(path)


def check_damaged(form: Format, folder: Path, truth: list[Message]):
    path = recorded(folder / "bag", truth, form)
    file = file_of(path)
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(content[:half] + bytes(len(content) - half))
    refused_in_one_line(path)


def refused_in_one_line(path: Path):
    with pytest.raises(BagError, match="is no readable bag: |is damaged: ") as caught:
        read(path)
    said = str(caught.value)
    assert str(path) in said and "accepted: " in said
    assert "\n" not in said and len(said) < 700


def check_foreign_channel(form: Format, folder: Path, truth: list[Message]):
    """It is left out by its name, and the others are read."""
    foreign = Message("/foreign", TEXT, T0 + 1, b"{}")
    path = recorded(
        folder / "bag", [text(0), foreign, text(2)], form, serializations={"/foreign": "json"}
    )
    with BagReader(path) as bag:
        assert [m.message.data for m in bag.messages(["/a"])] == ["0", "2"]
        (left_out,) = bag.left_out
        assert (set(bag.topics), left_out.topic, left_out.count) == ({"/a"}, "/foreign", 1)
        assert f"its messages are 'json' of type '{TEXT}', not CDR" in left_out.why
        with pytest.raises(BagError, match="has no topic /foreign that is read .*; there are: /a"):
            bag.type_of("/foreign")


def check_undecodable_message(form: Format, folder: Path, truth: list[Message]):
    """It is counted, and the others are read; its bytes can still be had."""
    bad = Message("/a", TEXT, T0 + 1, b"\0\1\0\0\xff\xff\xff\x7f")
    with BagReader(recorded(folder / "bag", [text(0), bad, text(2)], form)) as bag:
        found = [m.message for m in bag.messages(["/a"], tell=["/a"])]
        assert isinstance(found[1], Undecodable) and f"/a at {T0 + 1} ns" in found[1].text
        assert [found[0].data, found[2].data] == ["0", "2"] and bag.undecodable == {"/a": 1}
        assert [m.message.data for m in bag.messages(["/a"])] == ["0", "2"]
        assert [m.data for m in bag.raw(["/a"])][1] == bad.data


def check_shortfall(form: Format, folder: Path, truth: list[Message]):
    path = recorded(folder / "bag", [text(k) for k in range(4)], form)
    metadata = path / "metadata.yaml"
    content = yaml.safe_load(metadata.read_text())
    topics = content["rosbag2_bagfile_information"]["topics_with_message_count"]
    topics[0]["message_count"] = 6
    metadata.write_text(yaml.safe_dump(content))
    with BagReader(path) as bag:
        assert len(list(bag.raw(["/a"]))) == 4 and bag.shortfall == {"/a": (6, 4)}
        assert bag.shortfall_text("/a") == "it says that /a has 6 messages, and 4 are there"


def check_another_type(form: Format, folder: Path, truth: list[Message]):
    with BagReader(recorded(folder / "bag", [text(0)], form)) as bag:
        assert not bag.why_not_readable("/a") and not bag.difference("/a")
        with pytest.raises(BagError, match=f"recorded as {TEXT}; accepted: a/msg/B"):
            list(bag.messages({"/a": "a/msg/B"}))


def check_memory(form: Format, folder: Path, truth: list[Message]):
    """Of 48 MiB of messages that do not pack, a chunk of 8 MiB is in memory at most twice."""
    noise = np.random.default_rng(0).integers(0, 256, 256 << 10, np.uint8).tobytes()
    count = 192
    content = (Message("/a", TEXT, T0 + k, b"\0\1\0\0" + noise) for k in range(count))
    path = recorded(folder / "bag", content, form)
    gc.collect()
    tracemalloc.start()
    try:
        with BagReader(path) as bag:
            assert sum(1 for _ in bag.raw(["/a"])) == count
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 << 20


CHECKS = [
    check_same_messages,
    check_single_file,
    check_second_pass,
    check_part_by_time,
    check_truncated,
    check_damaged,
    check_foreign_channel,
    check_undecodable_message,
    check_shortfall,
    check_another_type,
    check_memory,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_format(form, check, tmp_path, truth):
    check(form, tmp_path, truth)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_file_of_another_tool_holds_the_same(truth, compression):
    found = read(OTHER_TOOL / f"other_tool_{compression}.mcap")
    assert [m[:3] for m in found] == [m[:3] for m in truth]
    # The other tool pads differently after the last field; what is there is the same.
    assert all(
        one.data[: len(other.data) - 8] == other.data[:-8] for one, other in zip(found, truth)
    )
