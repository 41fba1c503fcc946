"""One SQLite file of rosbag2, read as data alone: plain tables, no views, triggers or functions of
the file's own.
"""

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
    Summary,
    Unreadable,
    shown,
)

SQLITE_MAGIC = b"SQLite format 3\0"
_ROW_BYTES = 4096  # beside its message
_STEPS = 20_000  # of SQLite's machine between two looks for Ctrl-C
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
    """An open file: ``summary`` is what it holds. Raises Unreadable where it is no SQLite file of
    rosbag2.
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
        """Close it; more than once does no harm."""
        if self._connection is not None:
            self._connection.close()

    def _columns_of(self, table: str) -> set[str]:
        """The columns of a plain table, none where it is not there. Raises Unreadable for any other
        kind of it.
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
        # As bytes: what is no UTF-8 is no reason not to read the others.
        texts = ", ".join(
            f"CAST({name} AS BLOB)" if name in self._columns["topics"] else "x''" for name in names
        )
        rows = self._rows(f"SELECT id, {texts} FROM topics ORDER BY id LIMIT ?", (MOST_TOPICS + 1,))
        definitions = self._definitions({_text(row[2]) for row in rows})
        for number, topic, type_name, serialization, qos, digest in rows:
            kind = _text(type_name)
            encoding, definition = definitions.get(kind, ("", ""))
            summary.take(
                Channel(
                    number, _text(topic), kind, encoding, definition, _text(digest), _text(qos)
                ),
                _text(serialization),
            )
        known = {row[0] for row in rows}
        nobodys = 0
        stamp = "CASE WHEN typeof(timestamp) = 'integer' AND timestamp >= 0 THEN timestamp END"
        for number, count, start_ns, last_ns in self._connection.execute(
            f"SELECT topic_id, COUNT(*), MIN({stamp}), MAX({stamp}) FROM messages GROUP BY topic_id"
        ):
            if number not in known:
                nobodys += count
                continue
            summary.counts[number] = count
            if _is_stamp(start_ns) and _is_stamp(last_ns):
                summary.widen(start_ns, last_ns)
        if nobodys:
            summary.leave_out(
                "messages of no topic", "the file does not say what they are", nobodys
            )
        return summary

    def _definitions(self, types: set[str]) -> dict[str, tuple[str, str]]:
        """Encoding and text of the first definition of each of ``types`` that is read here, in one
        pass over them.
        """
        wanted = (
            sorted(types & typestore().fielddefs.keys())
            if self._columns["message_definitions"]
            else []
        )
        found: dict[str, tuple[str, str]] = {}
        for type_name, encoding, definition in (
            self._connection.execute(
                "SELECT topic_type, CAST(encoding AS BLOB), "
                "substr(CAST(encoded_message_definition AS BLOB), 1, ?) FROM message_definitions "
                f"WHERE topic_type IN ({', '.join('?' * len(wanted))})",
                (MOST_DEFINITION_BYTES + 1, *wanted),
            )
            if wanted
            else ()
        ):
            found.setdefault(type_name, (_text(encoding), _text(definition)))
        return found

    def _rows(self, query: str, values: tuple) -> list[tuple]:
        return list(self._connection.execute(query, values))

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, int, bytes | Unreadable]]:
        """Channel, time of recording and bytes of the messages of the channels ``wanted``, in the
        order of time. A row that is none has a text why, at the time 0 where it has none. Raises
        Unreadable where the file is damaged.
        """
        clauses, values = [f"topic_id IN ({', '.join('?' * len(wanted))})"], [*wanted]
        for clause, value in (("timestamp >= ?", start_ns), ("timestamp < ?", stop_ns)):
            if value is not None:
                clauses.append(clause)
                values.append(value)
        try:
            # The messages themselves are fetched one by one: they are no part of what is sorted.
            for row, channel, stamp_ns in self._connection.execute(
                "SELECT rowid, topic_id, CASE WHEN typeof(timestamp) = 'integer' THEN timestamp "
                f"ELSE typeof(timestamp) END FROM messages WHERE {' AND '.join(clauses)} ORDER BY "
                "timestamp, rowid",
                values,
            ):
                if _is_stamp(stamp_ns):
                    yield channel, stamp_ns, self._data(row)
                else:
                    yield (
                        channel,
                        0,
                        Unreadable(
                            f"its time is {stamp_ns}; accepted: 0 to {LONGEST_STAMP_NS - 1} ns"
                        ),
                    )
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
    """The file, opened so that nothing beside it is written or left behind."""
    real = Path(os.path.realpath(path))
    for ending in ("-journal", "-wal"):
        beside = real.with_name(real.name + ending)
        if beside.exists() or beside.is_symlink():
            check_regular(beside)
    if _size(real, "-journal"):
        raise Unreadable(
            f"{shown(real.name)}-journal beside it says that it was cut off within a change; "
            f"accepted: the file after `sqlite3 {shown(real.name)} .schema`, which mends it"
        )
    # With a log beside it, the last messages are in there alone. Without locks and with its index
    # in memory SQLite reads it in a folder that cannot be written to, and leaves both files as they
    # are.
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
    """The size in bytes of a file beside ``path``; 0 where it has been emptied, or is not there."""
    beside = path.with_name(path.name + ending)
    if not beside.is_file():
        return 0
    with open(beside, "rb") as file:
        return beside.stat().st_size if any(file.read(28)) else 0


def _is_stamp(value: Any) -> bool:
    return type(value) is int and 0 <= value < LONGEST_STAMP_NS


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
