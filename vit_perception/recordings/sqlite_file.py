"""One SQLite file of rosbag2, read as data: only plain tables, none of the file's own programs."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from vit_perception.files.regular_files import check_regular
from vit_perception.recordings.definitions import typestore
from vit_perception.recordings.storage import (
    LONGEST_STAMP_NS,
    MOST_DEFINITION_BYTES,
    MOST_MESSAGE_BYTES,
    MOST_TOPICS,
    Channel,
    Definition,
    StoredMessage,
    Summary,
    Unreadable,
    shown,
)

SQLITE_MAGIC = b"SQLite format 3\0"
_ROW_BYTES = 4096  # of a row, in addition to its message
MOST_DESCRIBED_BYTES = 64 << 20  # of all definitions of types that ROS does not have
_STEPS = 20_000  # of SQLite's machine between two checks for Ctrl-C
_TABLES = {
    "topics": {"id", "name", "type", "serialization_format"},
    "messages": {"id", "topic_id", "timestamp", "data"},
    "message_definitions": {"topic_type", "encoding", "encoded_message_definition"},
}
_ERRORS = (apsw.Error, UnicodeDecodeError)  # names of columns may be no UTF-8
_OFF = (
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA,
)
_ON = (apsw.SQLITE_DBCONFIG_DEFENSIVE, apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
_LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: MOST_MESSAGE_BYTES + _ROW_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    apsw.SQLITE_LIMIT_COLUMN: 200,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
}


class SqliteFile:
    """One open SQLite file; ``summary`` says what is in it.

    Raises:
        Unreadable: it is not a SQLite file of rosbag2.
    """

    def __init__(self, path: Path):
        self._connection = None
        try:
            self._connection = _connected(path)
            self._columns = {name: self._columns_of(name) for name in _TABLES}
            for name in ("topics", "messages"):
                if not self._columns[name]:
                    raise Unreadable(f"it has no table `{name}`; accepted: a database of rosbag2")
            self.summary = self._summary()
        except _ERRORS as error:
            self.close()
            raise Unreadable(shown(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._connection is not None:
            self._connection.close()

    def _columns_of(self, table: str) -> set[str]:
        """Return the columns of a plain table; none if the table does not exist.

        Raises:
            Unreadable: it is not a plain table with the columns of rosbag2.
        """
        kinds = self._rows(
            "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,)
        )
        if not kinds:
            return set()
        if kinds != [("table", 0)]:
            raise Unreadable(
                f"`{table}` is {shown(kinds[0][0])}, or without row numbers; accepted: a plain "
                "table"
            )
        columns = self._rows("SELECT name, hidden FROM pragma_table_xinfo(?)", (table,))
        if computed := [name for name, hidden in columns if hidden]:
            raise Unreadable(
                f"`{table}` computes its column {shown(computed[0])}; accepted: a plain table"
            )
        names = {name for name, _ in columns}
        if missing := sorted(_TABLES[table] - names):
            raise Unreadable(
                f"`{table}` has no column {missing[0]}; accepted: a database of rosbag2"
            )
        return names

    def _summary(self) -> Summary:
        summary = Summary([], [], {})
        names = (
            "name",
            "type",
            "serialization_format",
            "offered_qos_profiles",
            "type_description_hash",
        )
        # As bytes: one text that is not UTF-8 must not prevent reading the others.
        texts = ", ".join(
            f"CAST({name} AS BLOB)" if name in self._columns["topics"] else "x''" for name in names
        )
        rows = self._rows(f"SELECT id, {texts} FROM topics ORDER BY id LIMIT ?", (MOST_TOPICS + 1,))
        definitions = self._definitions({_text(row[2]) for row in rows})
        for number, topic, type_name, serialization, qos, digest in rows:
            kind = _text(type_name)
            channel = Channel(
                id=number,
                topic=_text(topic),
                definition=definitions.get(kind, Definition(kind)),
                digest=_text(digest),
                qos=_text(qos),
            )
            summary.take(channel, _text(serialization))
        known = {row[0] for row in rows}
        without_topic = 0
        stamp = "CASE WHEN typeof(timestamp) = 'integer' AND timestamp >= 0 THEN timestamp END"
        for number, count, start_ns, last_ns in self._connection.execute(
            f"SELECT topic_id, COUNT(*), MIN({stamp}), MAX({stamp}) FROM messages GROUP BY topic_id"
        ):
            if number not in known:
                without_topic += count
                continue
            summary.counts[number] = count
            if _is_stamp(start_ns) and _is_stamp(last_ns):
                summary.widen(start_ns, last_ns)
        if without_topic:
            summary.leave_out(
                "messages of no topic", "the file does not say what they are", without_topic
            )
        return summary

    def _definitions(self, types: set[str]) -> dict[str, Definition]:
        """Return the first definition of each of ``types``, those that ROS has first.

        Those of other types count as not recorded where they would take more than
        ``MOST_DESCRIBED_BYTES`` in all.
        """
        found: dict[str, Definition] = {}
        if not self._columns["message_definitions"]:
            return found
        left_bytes = MOST_DESCRIBED_BYTES
        of_ros = types & typestore().fielddefs.keys()
        for wanted in (sorted(of_ros), sorted(types - of_ros)):
            for type_name, encoding, text in self._connection.execute(
                "SELECT topic_type, CAST(encoding AS BLOB), "
                "substr(CAST(encoded_message_definition AS BLOB), 1, ?) FROM message_definitions "
                f"WHERE topic_type IN ({', '.join('?' * len(wanted))})",
                (MOST_DEFINITION_BYTES + 1, *wanted),
            ):
                left_bytes -= len(text or b"") if type_name not in of_ros else 0
                if left_bytes < 0:
                    break
                found.setdefault(type_name, Definition(type_name, _text(encoding), _text(text)))
        return found

    def _rows(self, query: str, values: tuple) -> list[tuple]:
        return list(self._connection.execute(query, values))

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[StoredMessage]:
        """Yield messages of the channels ``wanted`` from ``start_ns`` until before ``stop_ns``.

        They are in the order of time. A row whose time is not one has the time 0.

        Raises:
            Unreadable: the file is damaged.
        """
        clauses = [f"topic_id IN ({', '.join('?' * len(wanted))})"]
        values = [*wanted]
        for clause, value in (("timestamp >= ?", start_ns), ("timestamp < ?", stop_ns)):
            if value is not None:
                clauses.append(clause)
                values.append(value)
        try:
            # The data is fetched row by row: SQLite would sort it, too.
            for row, channel, stamp_ns in self._connection.execute(
                "SELECT rowid, topic_id, CASE WHEN typeof(timestamp) = 'integer' THEN timestamp "
                f"ELSE typeof(timestamp) END FROM messages WHERE {' AND '.join(clauses)} ORDER BY "
                "timestamp, rowid",
                values,
            ):
                if _is_stamp(stamp_ns):
                    yield StoredMessage(channel, stamp_ns, self._data(row))
                else:
                    why = f"its time is {stamp_ns}; accepted: 0 to {LONGEST_STAMP_NS - 1} ns"
                    yield StoredMessage(channel, 0, Unreadable(why))
        except _ERRORS as error:
            raise Unreadable(shown(error)) from error

    def _data(self, row: int) -> bytes | Unreadable:
        try:
            data = self._connection.execute(
                "SELECT CASE WHEN typeof(data) = 'blob' THEN data ELSE typeof(data) END FROM "
                "messages WHERE rowid = ?",
                (row,),
            ).get
        except apsw.TooBigError:
            return Unreadable(f"it has more than {MOST_MESSAGE_BYTES} bytes")
        return data if isinstance(data, bytes) else Unreadable(f"it is {data}; accepted: bytes")


def _connected(path: Path) -> apsw.Connection:
    """Open the file so that SQLite writes no other file next to it."""
    real = Path(os.path.realpath(path))
    for ending in ("-journal", "-wal"):
        other = real.with_name(real.name + ending)
        if other.exists() or other.is_symlink():
            check_regular(other)
    if _size(real, "-journal"):
        raise Unreadable(
            f"{shown(real.name)}-journal beside it says that it was cut off within a change; "
            f"accepted: the file after `sqlite3 {shown(real.name)} .schema`, which mends it"
        )
    # If there is a log next to it, the last messages are only in the log. Without locks and with
    # the log's index in memory SQLite reads it in a read-only folder, and changes neither file.
    log = _size(real, "-wal") > 0
    uri = f"file:{quote(str(real))}?mode=ro&" + ("vfs=unix-none" if log else "immutable=1")
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        for option in _OFF:
            connection.config(option, 0)
        for option in _ON:
            connection.config(option, 1)
        for limit, most in _LIMITS.items():
            connection.limit(limit, most)
        connection.set_progress_handler(lambda: False, _STEPS)
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "query_only = 1",
            "cell_size_check = 1",
            "mmap_size = 0",
        ):
            _ = connection.execute(f"PRAGMA {pragma}").get
        try:
            _ = connection.execute("SELECT COUNT(*) FROM sqlite_schema").get
        except apsw.Error as error:
            if not log:
                raise
            raise Unreadable(
                f"{real.name}-wal beside it cannot be read with it: {shown(error)}"
            ) from error
        return connection
    except BaseException:
        connection.close()
        raise


def _size(path: Path, ending: str) -> int:
    """Return the size in bytes of a file next to ``path``; 0 if it is emptied or missing."""
    other = path.with_name(path.name + ending)
    if not other.is_file():
        return 0
    with open(other, "rb") as file:
        return other.stat().st_size if any(file.read(28)) else 0


def _is_stamp(value: Any) -> bool:
    return type(value) is int and 0 <= value < LONGEST_STAMP_NS


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
