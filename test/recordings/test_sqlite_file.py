"""SQLite files of strangers: plain tables are read as data, with the log beside them; others are
refused by name.
"""

import os
import shutil
import signal
import sqlite3

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vit_perception.recordings import sqlite_file
from vit_perception.recordings.reader import BagError, BagReader, Undecodable

TEXT, T0 = "std_msgs/msg/String", 1_700_000_000_000_000_000
STORE = get_typestore(Stores.ROS2_KILTED)


def recorded(folder, count=6):
    """A bag of ``count`` texts, 0, 1, 2 ...; its file."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/a", TEXT, typestore=STORE)
        for k in range(count):
            writer.write(topic, T0 + k, STORE.serialize_cdr(STORE.types[TEXT](str(k)), TEXT))
    return folder / f"{folder.name}.db3"


@pytest.fixture
def file(tmp_path):
    return recorded(tmp_path / "bag")


def change(file, *statements):
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def texts(path):
    with BagReader(path) as bag:
        return [message.data for _, _, message in bag.messages(["/a"])]


def with_log(file):
    """The later half of the messages in a log beside the file, as where a recorder was killed; a
    copy of the folder.
    """
    rows = (
        sqlite3.connect(file)
        .execute("SELECT * FROM messages WHERE timestamp > ?", (T0 + 2,))
        .fetchall()
    )
    change(file, f"DELETE FROM messages WHERE timestamp > {T0 + 2}")
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    copy = file.parent.parent / "copy"
    shutil.copytree(file.parent, copy)
    connection.close()
    return copy


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("of_folder", [True, False])
def test_a_log_beside_the_file_is_read_and_nothing_is_touched(file, shared_memory, of_folder):
    copy = with_log(file)
    if not shared_memory:
        (copy / "bag.db3-shm").unlink()
    before = contents(copy)
    assert (
        texts(copy if of_folder else copy / "bag.db3") == list("012345")
        and contents(copy) == before
    )


def test_a_log_is_read_in_a_folder_that_cannot_be_written_to(file):
    copy = with_log(file)
    (copy / "bag.db3-shm").unlink()
    for path in copy.iterdir():
        path.chmod(0o444)
    copy.chmod(0o555)
    try:
        assert texts(copy) == list("012345")
    finally:
        copy.chmod(0o755)


def test_a_log_that_is_a_fifo_is_not_waited_for(file):
    os.mkfifo(file.with_name("bag.db3-wal"))
    with pytest.raises(BagError, match="bag.db3-wal is a FIFO"):
        BagReader(file)


def test_a_change_that_was_cut_off_is_refused_by_the_name_of_its_journal(file):
    file.with_name("bag.db3-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(600))
    with pytest.raises(BagError, match="bag.db3-journal beside it"):
        BagReader(file.parent)
    file.with_name("bag.db3-journal").write_bytes(bytes(600))  # a journal that is done with
    assert texts(file) == list("012345")


AS_OLD = "ALTER TABLE messages RENAME TO old"
ENDLESS = "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n)"


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        ([AS_OLD, "CREATE VIEW messages AS SELECT * FROM old"], "`messages` is view"),
        (
            [
                AS_OLD,
                f"CREATE VIEW messages AS SELECT id, topic_id, {ENDLESS} AS timestamp, data FROM "
                "old",
            ],
            "`messages` is view",
        ),
        (
            [AS_OLD, "CREATE VIRTUAL TABLE messages USING fts5(topic_id, timestamp, data)"],
            "`messages` is virtual",
        ),
        (
            [
                "DROP TABLE messages",
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp "
                "INTEGER, data BLOB AS (zeroblob(1000000000)))",
            ],
            "computes its column data",
        ),
        (
            [
                "DROP TABLE messages",
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp "
                "INTEGER, data BLOB AS (x'00') STORED)",
            ],
            "computes its column data",
        ),
        (
            [
                "DROP TABLE messages",
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id, timestamp, data) "
                "WITHOUT ROWID",
            ],
            "without row numbers",
        ),
        (
            [
                "DROP TABLE messages",
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id, timestamp)",
            ],
            "no column data",
        ),
        (["DROP TABLE messages"], "no table `messages`"),
        (["ALTER TABLE topics RENAME TO t"], "no table `topics`"),
        (
            ["ALTER TABLE topics RENAME TO t", "CREATE VIEW topics AS SELECT * FROM t"],
            "`topics` is view",
        ),
        (
            [
                "ALTER TABLE message_definitions RENAME TO t",
                "CREATE VIEW message_definitions AS SELECT * FROM t",
            ],
            "`message_definitions` is view",
        ),
        (
            ["CREATE TABLE many (" + ", ".join(f"c{k}" for k in range(1000)) + ")"],
            "too many columns|malformed",
        ),
    ],
)
def test_tables_that_are_none_are_refused(file, statements, why):
    change(file, *statements)
    with pytest.raises(BagError, match=why) as caught:
        BagReader(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_triggers_and_views_that_are_not_read_do_nothing(file):
    change(
        file,
        "CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM messages; END",
        f"CREATE VIEW v AS SELECT {ENDLESS}",
        "CREATE TABLE defaults (a DEFAULT (random()))",
    )
    assert texts(file) == list("012345")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("NULL", "it is null; accepted: bytes"),
        ("7", "it is integer; accepted"),
        ("1.5", "it is real; accepted"),
        ("'text'", "it is text; accepted"),
    ],
)
def test_data_that_is_no_bytes_is_counted_and_the_rest_is_read(file, value, why, caplog):
    change(
        file,
        "DROP TABLE IF EXISTS loose",
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, topic_id, timestamp, data)",
        "INSERT INTO loose SELECT * FROM messages",
        "DROP TABLE messages",
        "ALTER TABLE loose RENAME TO messages",
        f"UPDATE messages SET data = {value} WHERE timestamp = {T0 + 2}",
    )
    with BagReader(file) as bag:
        found = [message for _, _, message in bag.messages(["/a"], tell=["/a"])]
        assert [m.data for m in found if not isinstance(m, Undecodable)] == list("01345")
        assert [why in m.text for m in found if isinstance(m, Undecodable)] == [
            True
        ] and bag.undecodable == {"/a": 1}
        assert len(list(bag.raw(["/a"]))) == 5
    assert why in caplog.text


@pytest.mark.parametrize("stamp", ["-5", str(2**63 - 1), "NULL", "'soon'", "1.5", "x'00'"])
def test_a_time_that_is_none_is_counted_and_the_rest_is_read(file, stamp):
    change(
        file,
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, topic_id, timestamp, data)",
        "INSERT INTO loose SELECT * FROM messages",
        "DROP TABLE messages",
        "ALTER TABLE loose RENAME TO messages",
        f"UPDATE messages SET timestamp = {stamp} WHERE timestamp = {T0 + 2}",
    )
    with BagReader(file) as bag:
        found = [message for _, _, message in bag.messages(["/a"], tell=["/a"])]
    assert sorted(m.data for m in found if not isinstance(m, Undecodable)) == list("01345")
    (text,) = [m.text for m in found if isinstance(m, Undecodable)]
    assert "its time is" in text and "accepted: 0 to" in text


def test_a_message_that_is_too_large_is_counted_and_not_loaded(file, monkeypatch):
    monkeypatch.setitem(sqlite_file._LIMITS, sqlite_file.apsw.SQLITE_LIMIT_LENGTH, 100_000)
    change(file, f"UPDATE messages SET data = zeroblob(200000) WHERE timestamp = {T0 + 2}")
    with BagReader(file) as bag:
        found = [message for _, _, message in bag.messages(["/a"], tell=["/a"])]
    assert len(found) == 6 and next(m.text for m in found if isinstance(m, Undecodable)).endswith(
        " bytes"
    )


def test_messages_of_no_topic_and_topics_of_no_text_are_said(file):
    change(
        file,
        "INSERT INTO messages (topic_id, timestamp, data) VALUES (99, 1, x'00'), (98, 2, x'00')",
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, name, type, serialization_format, "
        "offered_qos_profiles, type_description_hash)",
        "INSERT INTO loose SELECT * FROM topics",
        "DROP TABLE topics",
        "ALTER TABLE loose RENAME TO topics",
        "INSERT INTO topics VALUES (7, NULL, 5, x'00', 6, 7)",
    )
    with BagReader(file) as bag:
        assert set(bag.topics) == {"/a"} and len(list(bag.raw(["/a"]))) == 6
        assert [(e.topic, e.count) for e in bag.left_out] == [
            ("a topic without a name", 0),
            ("messages of no topic", 2),
        ]


@pytest.mark.parametrize("name", ["run?1", "50%25 off", "a#b", "x&vfs=none"])
def test_a_name_with_signs_of_an_address_is_a_name(tmp_path, name):
    folder = recorded(tmp_path / "bag").parent.rename(tmp_path / name)
    (folder / "bag.db3").rename(folder / f"{name}.db3")
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("bag.db3", f"{name}.db3"))
    assert texts(folder) == list("012345")


def test_texts_that_are_no_utf_8_do_not_keep_the_others_from_being_read(file):
    change(
        file,
        "INSERT INTO topics SELECT 7, CAST(x'2f80' AS TEXT), CAST(x'ff' AS TEXT), 'cdr', '', '' "
        "FROM topics",
        "UPDATE messages SET data = CAST(x'ff' AS TEXT) WHERE timestamp = 1700000000000000001",
    )
    with BagReader(file) as bag:
        found = [message for _, _, message in bag.messages(["/a"], tell=["/a"])]
        assert set(bag.topics) == {"/a"} and len(bag.left_out) == 1
        assert [isinstance(message, Undecodable) for message in found] == [False, True] + 4 * [
            False
        ]


def test_reading_can_be_interrupted(file):
    """SQLite lets Python look for signals within one step, however long: this one has no end."""

    class Alarm(Exception):
        pass

    def ring(*unused):
        raise Alarm

    earlier = signal.signal(signal.SIGALRM, ring)
    connection = sqlite_file._connected(file)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Alarm):
            connection.execute(f"SELECT {ENDLESS}").get
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        connection.close()
