"""MCAP chunks: the messages and the order of the library rosbags, with a fraction of its memory."""

import gc
import tracemalloc

import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vit_perception.recordings.mcap import chunks
from vit_perception.recordings.mcap.chunk_index import Chunk, ChunkIndex
from vit_perception.recordings.reader import BagReader

TEXT = "std_msgs/msg/String"
# Times of the messages of each chunk: out of order within one, overlapping with others, equal, and
# far apart.
CHUNKS = [[10, 30, 20], [15, 15, 35], [40], [5, 60], [41, 41], [35, 30], [1000]]


def written(path, chunks, indexed=True):
    """A bag with these chunks; messages of two topics by turns, each of which says where it
    stands.
    """
    store, writer = (
        get_typestore(Stores.ROS2_KILTED),
        Writer(path, version=9, storage_plugin=StoragePlugin.MCAP),
    )
    with writer:
        topics = [writer.add_connection(f"/{name}", TEXT, typestore=store) for name in "ab"]
        for number, times_ns in enumerate(chunks):
            for place, time_ns in enumerate(times_ns):
                text = store.types[TEXT](f"{number}.{place}")
                writer.write(topics[place % 2], time_ns, store.serialize_cdr(text, TEXT))
            if not indexed:
                writer.storage.chunk.msgs.clear()
            writer.storage.close_chunk()
    return path


def library_s(path, topics, *span_ns):
    with Reader(path) as reader:
        wanted = [c for c in reader.connections if c.topic in topics]
        return [
            (c.topic, time_ns, bytes(data))
            for c, time_ns, data in reader.messages(wanted, *span_ns)
        ]


def read(path, topics, *span_ns):
    with BagReader(path) as bag:
        return [(m.topic, m.stamp_ns, m.data) for m in bag.raw(topics, *span_ns)]


@pytest.mark.parametrize("topics", [("/a", "/b"), ("/a",), ("/b",)])
@pytest.mark.parametrize("span_ns", [(), (15, 41), (None, 41), (36, None), (2000, None)])
@pytest.mark.parametrize("of_folder", [True, False])
def test_messages_and_their_order_are_the_library_s(tmp_path, topics, span_ns, of_folder):
    path = written(tmp_path / "bag", CHUNKS)
    path = path if of_folder else path / "bag.mcap"
    messages = read(path, topics, *span_ns)
    assert messages == library_s(path, topics, *span_ns) and (messages or span_ns == (2000, None))
    with Reader(path) as theirs, BagReader(path) as ours:
        assert (
            (ours.start_ns, ours.end_ns, ours.count("/a") + ours.count("/b"))
            == (theirs.start_time, theirs.end_time, theirs.message_count)
            == (5, 1001, 14)
        )


def test_chunks_without_message_indices_are_read(tmp_path):
    path = written(tmp_path / "bag", CHUNKS, indexed=False)
    with BagReader(path) as bag:
        times_ns = [message.stamp_ns for message in bag.raw(["/a", "/b"])]
    assert times_ns == sorted(time_ns for chunk in CHUNKS for time_ns in chunk)


def test_only_chunks_that_overlap_are_open_at_once(tmp_path, monkeypatch):
    open_now, most = set(), 0

    class Counted(chunks._OpenChunk):
        def __iter__(self):
            nonlocal most
            open_now.add(id(self))
            most = max(most, len(open_now))
            yield from super().__iter__()
            open_now.discard(id(self))

    monkeypatch.setattr(chunks, "_OpenChunk", Counted)
    path = written(tmp_path / "bag", [[10 * k, 10 * k + 15] for k in range(50)])
    assert len(read(path, ("/a", "/b"))) == 100 and most == 2 and not open_now


def test_a_chunk_costs_100_bytes(tmp_path):
    """Of 3,000 chunks of two topics: 76 bytes each in the index, and as much again where arrays
    grow.
    """
    path = written(tmp_path / "bag", [[2 * k, 2 * k + 1] for k in range(3000)])

    def traced(messages):
        gc.collect()
        tracemalloc.start()
        try:
            next(messages)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / 3000
        finally:
            tracemalloc.stop()

    with BagReader(path) as bag:
        assert traced(bag.raw(["/a", "/b"])) < 200


def test_an_index_gives_its_chunks_back():
    index = ChunkIndex()
    assert not len(index)
    chunks = [
        Chunk(30, 40, 8, 20, 10, 100, "zstd", (1, 2)),
        Chunk(10, 50, 28, 20, 10, 5, "", ()),
        Chunk(2**63 - 1, 0, 48, 20, 10, 7, "lz4", (3,)),
    ]
    for chunk in chunks:
        index.append(chunk)
    assert [index[k] for k in range(len(index))] == chunks and index.unpacked_bytes == 112
    assert list(index.by_start()) == [chunks[1], chunks[0], chunks[2]]


def test_a_folder_called_bag_is_of_ros_2_all_the_same(tmp_path):
    """Regression: its messages were taken for those of ROS 1, and none could be read."""
    with BagReader(written(tmp_path / "run.bag", CHUNKS)) as bag:
        texts = [message.data for _, _, message in bag.messages(["/a", "/b"])]
    assert len(texts) == sum(map(len, CHUNKS)) and "0.0" in texts and not bag.undecodable
