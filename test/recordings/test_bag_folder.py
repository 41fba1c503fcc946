"""metadata.yaml of strangers, and files that were packed as a whole."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest
import yaml
from rosbags.rosbag2.reader import zstd

from test.recordings.formats import FORMATS, STORE, Message
from test.recordings.formats import recorded as write_bag
from test.recordings.mcap import parts as m
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings import storage
from vit_perception.recordings.reader import BagError, BagReader

TEXT, T0 = "std_msgs/msg/String", 1_700_000_000_000_000_000


def recorded(folder, form=FORMATS["mcap"]):
    return write_bag(
        folder,
        (
            Message("/a", TEXT, T0 + k, STORE.serialize_cdr(STORE.types[TEXT](str(k)), TEXT))
            for k in range(4)
        ),
        form,
    )


def texts(path):
    with BagReader(path) as bag:
        return [message.data for _, _, message in bag.messages(["/a"])]


def edit(folder, **changes):
    path = folder / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    content["rosbag2_bagfile_information"].update(changes)
    path.write_text(yaml.safe_dump(content))
    return folder


ZERO = {"sec": 0, "nsec": 0}
OTHER_QOS = [
    {
        "history": 3,
        "depth": 7,
        "reliability": 2,
        "durability": 1,
        "deadline": ZERO,
        "lifespan": ZERO,
        "liveliness": 1,
        "liveliness_lease_duration": ZERO,
        "avoid_ros_namespace_conventions": False,
    }
]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    "said", [OTHER_QOS, yaml.safe_dump(OTHER_QOS), [], "no profile", [{"depth": "x"}], 7]
)
def test_messages_are_read_whatever_qos_metadata_yaml_says(tmp_path, storage, said):
    folder = recorded(tmp_path / "bag", FORMATS[storage])
    topic = {
        "topic_metadata": {
            "name": "/a",
            "type": TEXT,
            "serialization_format": "cdr",
            "offered_qos_profiles": said,
        },
        "message_count": 4,
    }
    edit(folder, topics_with_message_count=[topic])
    assert texts(folder) == list("0123")
    with BagReader(folder) as bag:
        if said in ("no profile", [{"depth": "x"}], 7):
            with pytest.raises(InvalidValue, match="accepted: "):
                bag.qos_of("/a")
        else:
            assert [profile.depth for profile in bag.qos_of("/a")] == ([7] if said else [])


@pytest.mark.parametrize(
    "name", ["../other/bag.mcap", "..", "/", "", "a\0b", 7, None, ["bag.mcap"], "none.mcap"]
)
def test_files_that_are_not_in_the_folder_are_refused(tmp_path, name):
    recorded(tmp_path / "other")
    with pytest.raises(BagError, match="metadata.yaml names"):
        BagReader(edit(recorded(tmp_path / "bag"), relative_file_paths=[name]))


def test_a_file_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(BagError, match="names bag.mcap twice"):
        BagReader(edit(recorded(tmp_path / "bag"), relative_file_paths=["bag.mcap", "./bag.mcap"]))


def test_the_folder_s_own_name_before_a_file_s_is_as_older_versions_wrote(tmp_path):
    assert texts(
        edit(recorded(tmp_path / "bag"), relative_file_paths=["recorded_elsewhere/bag.mcap"])
    ) == list("0123")


def test_a_fifo_or_a_device_is_not_waited_for(tmp_path):
    folder = recorded(tmp_path / "bag")
    (folder / "bag.mcap").unlink()
    os.mkfifo(folder / "bag.mcap")
    for path in (folder, folder / "bag.mcap"):
        with pytest.raises(BagError, match="is a FIFO|is no bag"):
            BagReader(path)
    (folder / "bag.mcap").unlink()
    (folder / "bag.mcap").symlink_to("/dev/zero")
    for path in (folder, folder / "bag.mcap"):
        with pytest.raises(BagError, match="is a device|is no bag"):
            BagReader(path)
    (folder / "metadata.yaml").unlink()
    os.mkfifo(folder / "metadata.yaml")
    with pytest.raises(BagError, match="without metadata.yaml"):
        BagReader(folder)


def test_a_link_to_a_file_on_another_disk_is_read(tmp_path):
    folder = recorded(tmp_path / "bag")
    (tmp_path / "store").mkdir()
    (folder / "bag.mcap").rename(tmp_path / "store/1234")
    (folder / "bag.mcap").symlink_to(tmp_path / "store/1234")
    assert texts(folder) == texts(folder / "bag.mcap") == list("0123")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 99}, "version 99"),
        ({"version": "9"}, "a wrong version"),
        ({"version": None}, "no version"),
        ({"storage_identifier": "rocksdb\x1b[2J"}, "its storage is"),
        ({"storage_identifier": ["mcap"]}, "a wrong storage_id"),
        ({"compression_mode": "each"}, "compression_mode is 'each'"),
        ({"compression_mode": 5}, "a wrong compression_mode"),
        ({"compression_mode": "file", "compression_format": "bz2"}, "compression_format is 'bz2'"),
        ({"relative_file_paths": "bag.mcap"}, "a wrong relative_file_paths"),
        ({"relative_file_paths": None}, "no relative_"),
        ({"topics_with_message_count": {"a": 1}}, "a wrong topics_with"),
        ({"topics_with_message_count": [5]}, "no topic_meta"),
        ({"topics_with_message_count": [{"topic_metadata": {"name": 5}}]}, "a wrong name"),
    ],
)
def test_metadata_of_other_types_is_one_line(tmp_path, change, why):
    with pytest.raises(BagError, match=why) as caught:
        BagReader(edit(recorded(tmp_path / "bag"), **change))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


DOUBLING = "b0: &b0 [x, x]\n" + "".join(
    f"b{k}: &b{k} [*b{k - 1}, *b{k - 1}]\n" for k in range(1, 40)
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "rosbag2_bagfile_information: 5",
        "a: &a [*a]",
        "[" * 10_000,
        "\xff: [",
        DOUBLING,
    ],
    ids=lambda text: repr(text[:9]),
)
def test_metadata_that_is_none_or_explodes_is_one_line(tmp_path, text):
    folder = recorded(tmp_path / "bag")
    (folder / "metadata.yaml").write_text(text, "latin-1")
    with pytest.raises(BagError, match="is no readable bag") as caught:
        BagReader(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_was_unpacked_has_no_name_while_it_is_read(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with BagReader(recorded(tmp_path / "bag", FORMATS[f"{storage}, packed file"])) as bag:
        for _ in range(2):
            assert [message.data for _, _, message in bag.messages(["/a"])] == list("0123")
        assert not list((tmp_path / "temporary").iterdir())


def test_nothing_of_a_packed_bag_stays_behind_a_kill(tmp_path):
    folder = recorded(tmp_path / "bag", FORMATS["mcap, packed file"])
    (tmp_path / "temporary").mkdir()
    program = (
        "import os, signal\nfrom vit_perception.recordings.reader import BagReader\n"
        f"bag = BagReader({str(folder)!r})\nprint(bag.count('/a'), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    assert (
        done.stdout == "4\n"
        and done.returncode == -signal.SIGKILL
        and not list((tmp_path / "temporary").iterdir())
    )


def packed_bag(folder, packed):
    """A folder whose one file, packed as a whole, has these bytes."""
    recorded(folder, FORMATS["mcap, packed file"])
    (file,) = folder.glob("*.zstd")
    file.write_bytes(packed)
    return folder


LONG = m.MAGIC + bytes((1 << 30) + 1)


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (zstd.compress(b"no recording"), "no such recording"),
        (b"no zstd", "not packed|cannot be unpacked"),
        (b"", "not packed"),
        (zstd.compress(b""), "nothing is packed"),
        (zstd.compress(m.MAGIC * 100_000)[:-5], "cannot be unpacked"),
        (
            zstd.compress(LONG),
            "unpacks to more than 1024 MiB; accepted: 1024 MiB in all, or 1000 times its size",
        ),
        (zstd.compress(LONG[: 1 << 24]) * 70, "unpacks to more than 1024 MiB"),
    ],
    ids=["text", "raw", "empty", "nothing", "cut", "declared", "frames"],
)
def test_a_packed_file_is_unpacked_within_limits(tmp_path, packed, why):
    with pytest.raises(BagError, match=why):
        BagReader(packed_bag(tmp_path / "bag", packed))


def test_a_log_beside_a_packed_file_is_refused_by_name(tmp_path):
    folder = recorded(tmp_path / "bag", FORMATS["sqlite3, packed file"])
    (folder / "bag.db3-wal").write_bytes(b"x")
    with pytest.raises(BagError, match="bag.db3-wal beside it holds messages"):
        BagReader(folder)


def test_a_message_that_unpacks_to_gigabytes_is_counted_and_the_rest_is_read(tmp_path):
    folder = recorded(tmp_path / "bag", FORMATS["mcap, packed messages"])
    bomb = zstd.compress(bytes(129 << 20))
    stream = zstd.ZstdCompressor()
    undeclared = stream.compress(bytes(129 << 20)) + stream.flush()
    fine = zstd.compress(b"\0\1\0\0\2\0\0\0x\0")
    data = m.schema(1, TEXT) + m.channel(1, 1, "/a")
    data += b"".join(
        m.message(1, T0 + k, each)
        for k, each in enumerate([bomb, fine, undeclared, b"raw", fine[:-2]])
    )
    m.write(folder / "bag.mcap", data)
    with BagReader(folder) as bag:
        assert [message.data for _, _, message in bag.messages(["/a"])] == [
            "x"
        ] and bag.undecodable == {"/a": 4}


def test_messages_that_unpack_to_much_more_than_the_bag_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "ALWAYS_UNPACKED_BYTES", 1 << 20)
    bomb = zstd.compress(b"\0\1\0\0" + bytes(1 << 20))
    data = (
        m.schema(1, TEXT)
        + m.channel(1, 1, "/a")
        + b"".join(m.message(1, T0 + k, bomb) for k in range(50))
    )
    with (
        BagReader(m.write(tmp_path / "bag.mcap", data)) as bag,
        pytest.raises(BagError, match="messages unpack to mo"),
    ):
        list(bag.raw(["/a"]))
