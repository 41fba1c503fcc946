"""Recordings of every kind that rosbag2 and other tools write, read alike."""

from pathlib import Path

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from test.conftest import DEMO_BAG
from vit_perception.recordings.reader import BagError, BagReader

TOPICS = ["/wrist/image/compressed", "/ee_pose"]
OTHER_TOOL = Path(__file__).parent / "recordings"


@pytest.fixture(scope="module")
def truth():
    with BagReader(DEMO_BAG) as bag:
        return [
            (m.topic, m.type_name, m.stamp_ns, m.data)
            for m in bag.raw(TOPICS, stop_ns=bag.start_ns + 200_000_000)
        ]


def written(path, truth, plugin, mode, version=9):
    """The messages as rosbags itself writes them."""
    writer, store = (
        Writer(path, version=version, storage_plugin=plugin),
        get_typestore(Stores.ROS2_KILTED),
    )
    if mode is not CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {
            t: writer.add_connection(t, kind, typestore=store) for t, kind in {m[:2] for m in truth}
        }
        for topic, _, stamp_ns, data in truth:
            writer.write(connections[topic], stamp_ns, data)
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("mode", list(CompressionMode))
def test_storage_and_compression_make_no_difference(truth, tmp_path, plugin, mode):
    if mode is CompressionMode.STORAGE and plugin is StoragePlugin.SQLITE3:
        pytest.skip("SQLite storage has no compression of its own")
    with BagReader(written(tmp_path / "bag", truth, plugin, mode, 8)) as bag:
        assert [(m.topic, m.type_name, m.stamp_ns, m.data) for m in bag.raw(TOPICS)] == truth
        assert bag.qos_of("/ee_pose") == []


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_file_of_another_tool_holds_the_same(truth, compression):
    with BagReader(OTHER_TOOL / f"other_tool_{compression}.mcap") as bag:
        read = [(m.topic, m.type_name, m.stamp_ns, m.data) for m in bag.raw(TOPICS)]
    assert [r[:3] for r in read] == [t[:3] for t in truth]
    # The other tool pads differently behind the last field; what is there is the same.
    assert all(one[3][: len(other[3]) - 8] == other[3][:-8] for one, other in zip(read, truth))


def test_a_part_of_a_bag_by_time(truth):
    with BagReader(DEMO_BAG) as bag:
        part = [m.stamp_ns for m in bag.raw(TOPICS, truth[10][2], truth[20][2])]
    assert part == [t[2] for t in truth if truth[10][2] <= t[2] < truth[20][2]]


def test_a_damaged_bag_is_named(truth, tmp_path):
    for mode in (CompressionMode.FILE, CompressionMode.NONE):
        path = written(tmp_path / mode.name, truth, StoragePlugin.MCAP, mode)
        (file,) = path.glob("*.mcap*")
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        file.write_bytes(content)
        with pytest.raises(BagError, match=f"{path}.* is no readable bag: "):
            BagReader(path)
