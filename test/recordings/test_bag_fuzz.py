"""Bags with flipped, cut, doubled and overwritten bytes: each is read, or refused in one line."""

import random
import sqlite3
import struct
from contextlib import suppress

import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag2.reader import zstd

from test.recordings.formats import FORMATS, STORE, Message, file_of, recorded
from test.recordings.mcap import parts as m
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.reader import BagError, BagReader, Undecodable

T0, ROUNDS = 1_700_000_000_000_000_000, 250
TEXT, JOINTS = "std_msgs/msg/String", "sensor_msgs/msg/JointState"


def messages(count=12):
    types = STORE.types
    for k in range(count):
        if k % 3:
            topic, kind, message = "/a", TEXT, types[TEXT](f"text {k}")
        else:
            stamp = types["builtin_interfaces/msg/Time"](k, 0)
            header = types["std_msgs/msg/Header"](stamp, "frame")
            message = types[JOINTS](header, ["a", "b"], *[np.full(2, float(k))] * 3)
            topic, kind = "/joints", JOINTS
        yield Message(topic, kind, T0 + k, STORE.serialize_cdr(message, kind))


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """``data`` with one to four mistakes."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        data = data or bytearray(b"\0")
        at, length = chance.randrange(len(data)), chance.choice((1, 2, 4, 8))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case 2:
                data[at : at + 8] = struct.pack(
                    "<Q", chance.choice((0, 1, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 1, at))
                )
            case 3:
                del data[at : at + chance.randint(1, 64)]
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 64)]
            case 5:
                data = data[: max(1, at)]
    return bytes(data)


def read_all(path) -> int:
    """How many messages came out, whole or not; a BagError counts for none."""
    try:
        with BagReader(path) as bag:
            topics = list(bag.topics)
            for topic in topics:
                bag.difference(topic), bag.count(topic)
                with suppress(InvalidValue):
                    bag.qos_of(topic)
            found = [m for _, _, m in bag.messages(topics, tell=topics)]
            raw = list(bag.raw(topics, bag.start_ns, bag.end_ns))
            assert all(
                m.text.isprintable() and len(m.text) < 1500
                for m in found
                if isinstance(m, Undecodable)
            )
            return len(found) + len(raw)
    except BagError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500
        return 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_spoiled_file_is_read_or_refused(tmp_path, name):
    folder = recorded(tmp_path / "bag", messages(), FORMATS[name])
    file = file_of(folder)
    whole, chance = file.read_bytes(), random.Random(name)
    assert read_all(folder) == 24
    outcomes = []
    for _ in range(ROUNDS):
        file.write_bytes(spoiled(whole, chance))
        outcomes.append(read_all(folder))
    assert 0 in outcomes and any(outcomes)


def test_spoiled_metadata_is_read_or_refused(tmp_path):
    folder = recorded(tmp_path / "bag", messages())
    whole, chance = (folder / "metadata.yaml").read_bytes(), random.Random(1)
    for _ in range(ROUNDS // 2):
        (folder / "metadata.yaml").write_bytes(spoiled(whole, chance))
        read_all(folder)


@pytest.mark.parametrize("compression", ["", "zstd", "lz4"])
@pytest.mark.parametrize("summary", [True, False])
def test_a_spoiled_file_without_checksums_is_read_or_refused(tmp_path, compression, summary):
    body = m.schema(1, TEXT) + m.channel(1, 1, "/a", said={"offered_qos_profiles": "[]"})
    body += b"".join(m.message(1, T0 + k, b"\0\1\0\0\2\0\0\0x\0") for k in range(20))
    packed = {"": body, "zstd": zstd.compress(body), "lz4": lz4.frame.compress(body)}[compression]
    chunk = m.chunk(T0, T0 + 19, packed, len(body), compression)
    begin = len(m.header())
    said = m.schema(1, TEXT) + m.channel(1, 1, "/a") + m.statistics({1: 20}, T0, T0 + 19, 1)
    said += m.index(T0, T0 + 19, begin, len(chunk), len(packed), len(body), compression, (1,))
    file = m.write(tmp_path / "bag.mcap", chunk, said if summary else b"")
    whole, chance = file.read_bytes(), random.Random(f"{compression} {summary}")
    assert read_all(file) == 40
    for _ in range(ROUNDS):
        file.write_bytes(spoiled(whole, chance))
        read_all(file)


def test_spoiled_rows_are_counted_or_refused(tmp_path):
    """Every cell of every table with every kind of value, which SQLite keeps whatever the column
    says.
    """
    values = [
        "NULL",
        "-1",
        "9223372036854775807",
        "1e300",
        "'text'",
        "x'00ff'",
        "char(27) || '[2J'",
    ]
    for table in ("topics", "messages", "message_definitions", "schema"):
        file = file_of(recorded(tmp_path / table, messages(), FORMATS["sqlite3"]))
        connection = sqlite3.connect(file)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        connection.execute(f"CREATE TABLE loose ({', '.join(columns)})")  # no types, no constraints
        connection.execute(f"INSERT INTO loose SELECT * FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE loose RENAME TO {table}")
        for column in columns:
            (before,) = connection.execute(
                f"SELECT {column} FROM {table} WHERE rowid = 1"
            ).fetchone()
            for value in values:
                connection.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = 1")
                connection.commit()
                read_all(file)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 1", (before,))
            connection.commit()
        connection.close()
        assert read_all(file) == 24
