"""Numbers of any topic of a bag as columns at the images' stamps.

``hold`` takes the latest sample at or before an image, ``linear`` the line between the two samples
around it, number by number. A row without a value has zeros and a False in ``<name>.mask``.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_perception.config.column_settings import ColumnSettings
from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.recordings.numbers.cdr_numbers import NumberReader
from vit_perception.recordings.numbers.field_path import parsed_path
from vit_perception.recordings.numbers.message_type import check_numeric, message_type
from vit_perception.recordings.reader import BagReader, StoredBytes
from vit_perception.recordings.storage import Channel, Unreadable, some_of
from vit_perception.streams.number_history import NumberHistory
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput

# Messages that are searched for the first one with numbers: it says how many there are.
MOST_SEARCHED = 100
# All samples of all columns together.
KEPT_BYTES = 64 << 20
_SAMPLE_BYTES = 200  # of an array's and a stamp's own
NO_AGE_NS = -1


class RecordedColumn(NamedTuple):
    """One column that the bags have."""

    settings: ColumnSettings
    type_name: str
    # The name of each number, such as ``position[0]``; their count is the column's width.
    numbers: tuple[str, ...]
    # Whether samples have the stamps of their headers; else the times of recording.
    has_header: bool

    def described(self) -> dict[str, Any]:
        """Return the column's entry of the manifest."""
        return {
            "name": self.settings.name,
            "topic": self.settings.topic,
            "field": self.settings.field,
            "type": self.type_name,
            "numbers": list(self.numbers),
            "between": self.settings.between,
            "longest_s": self.settings.longest_s,
            "stamps": "header" if self.has_header else "recording",
        }

    def line(self) -> str:
        """Return what the column is, in one line for people."""
        stamps = "stamps of headers" if self.has_header else "no header: times of recording"
        return (
            f"column {self.settings.name}: {len(self.numbers)} numbers of {self.settings.topic} "
            f"({self.type_name}), {self.settings.between}; {stamps}"
        )


def recorded_columns(
    bags: Sequence[Path], columns: Sequence[ColumnSettings]
) -> tuple[RecordedColumn, ...]:
    """Find ``columns`` in every one of ``bags``, before anything is encoded.

    Raises:
        InvalidValue: a bag has no such topic, field or message, several types under one topic, or
            other numbers than the first bag. The message says what would be accepted.
    """
    found: dict[str, RecordedColumn] = {}
    for path in bags if columns else ():
        with BagReader(path) as bag:
            for column in columns:
                one = _found(bag, column)
                first = found.setdefault(column.name, one)
                if one[1:] != first[1:]:
                    raise InvalidValue(
                        f" {column.name}: {path} has {_said(one)} on {column.topic}, and {bags[0]} "
                        f"has {_said(first)}; accepted: recordings that agree, or embedded one by "
                        "one",
                        argument="column",
                    )
    return tuple(found.values())


def _said(column: RecordedColumn) -> str:
    return f"{len(column.numbers)} numbers of {column.type_name}"


def _found(bag: BagReader, column: ColumnSettings) -> RecordedColumn:
    topic = column.topic
    if topic not in bag.topics:
        raise InvalidValue(
            f" {column.name}: {bag.path} has no topic {topic} that is read; accepted: "
            f"{bag.what_there_is().removeprefix('there are: ')}",
            argument="column",
            hint=nearest(topic, sorted(bag.topics)),
        )
    types = bag.types_of(topic)
    if len(types) > 1:
        raise InvalidValue(
            f" {column.name}: {topic} of {bag.path} is recorded as {some_of(types)}; accepted: a "
            "topic of one type",
            argument="column",
        )
    try:
        reader = _reader(bag.channel_of(topic), column)
        names = _names_of_first(bag, reader, topic)
    except Unreadable as error:
        field = f", field {column.field}" if column.field else ""
        raise InvalidValue(
            f" {column.name}: {topic} of {bag.path} ({types[0]}){field}: {error}",
            argument="column",
        ) from error
    return RecordedColumn(column, types[0], tuple(names), reader.has_header)


def _reader(channel: Channel, column: ColumnSettings) -> NumberReader:
    whole = message_type(channel)
    path = parsed_path(column.field)
    is_bool = check_numeric(whole, path)
    if is_bool and column.between == "linear":
        raise Unreadable("there is nothing between false and true; accepted: @hold")
    return NumberReader(whole, path)


def _names_of_first(bag: BagReader, reader: NumberReader, topic: str) -> list[str]:
    failure = "it has no message; accepted: a topic with messages"
    for stored in islice(bag.stored([topic]), MOST_SEARCHED):
        try:
            names, _ = reader.names_and_numbers(stored.data)
        except Unreadable as error:
            failure = f"its first messages cannot be read: {error}"
            continue
        if names:
            return names
        failure = "its first messages hold no numbers there; accepted: a field that is not empty"
    raise Unreadable(failure)


class ColumnStreams:
    """The samples of all columns in one pass over a bag."""

    def __init__(self, columns: Sequence[RecordedColumn]):
        self._columns = columns
        self._readers: dict[tuple[str, int], NumberReader | Unreadable] = {}
        self.by_topic: dict[str, list[RecordedColumn]] = {}
        # The type of the messages, by topic.
        self.types: dict[str, str] = {}
        self._histories: dict[str, NumberHistory] = {}
        for column in columns:
            settings = column.settings
            self.by_topic.setdefault(settings.topic, []).append(column)
            self.types[settings.topic] = column.type_name
            sample_bytes = _SAMPLE_BYTES + 8 * len(column.numbers)
            self._histories[settings.name] = NumberHistory(
                linear=settings.between == "linear",
                longest_ns=round(settings.longest_s * NANOSECONDS_PER_SECOND),
                most_samples=KEPT_BYTES // (len(columns) * sample_bytes),
            )

    def add(self, topic: str, recorded_ns: int, stored: StoredBytes) -> None:
        """Take one message for every column of its topic.

        Raises:
            BadInput: a column could not use it; the others have got it then.
        """
        refused: BadInput | None = None
        for column in self.by_topic.get(topic, ()):
            try:
                self._add(column, recorded_ns, stored)
            except BadInput as error:
                refused = error
        if refused is not None:
            raise refused

    def _add(self, column: RecordedColumn, recorded_ns: int, stored: StoredBytes) -> None:
        name = column.settings.name
        # The definitions of a bag's files may differ.
        key = (name, id(stored.channel))
        if key not in self._readers:
            try:
                self._readers[key] = _reader(stored.channel, column.settings)
            except Unreadable as error:
                self._readers[key] = error
        reader = self._readers[key]
        if isinstance(reader, Unreadable):
            raise BadInput("undecodable", f"column {name}: {reader}")
        try:
            numbers = reader.numbers(stored.data)
            stamp_ns = reader.stamp_ns(stored.data) if column.has_header else recorded_ns
        except Unreadable as error:
            raise BadInput("undecodable", f"column {name}: {error}") from error
        if len(numbers) != len(column.numbers):
            raise BadInput(
                "size",
                f"column {name}: it has {len(numbers)} numbers; accepted: {len(column.numbers)}, "
                "as in the first message",
            )
        if stamp_ns <= 0:
            raise BadInput("stamp", f"column {name}: its header has no stamp above 0")
        if not np.isfinite(numbers).all():
            raise BadInput("not_finite", f"column {name}: a number is NaN or infinite")
        self._histories[name].add(stamp_ns, numbers)

    def covers(self, stamp_ns: int) -> bool:
        """Whether every column has samples at or after ``stamp_ns``."""
        return all(history.covers(stamp_ns) for history in self._histories.values())

    def forget_after(self, stamp_ns: int, jump_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget samples of the time before the jump."""
        for history in self._histories.values():
            if history.covers(stamp_ns + jump_ns):
                history.clear()

    def at(
        self, stamp_ns: int, note_missing: Callable[[str, str], None] = lambda topic, text: None
    ) -> Mapping[str, Any]:
        """Return the columns of the row of an image with this stamp.

        ``note_missing`` gets topic and text of each column without a value.
        """
        row: dict[str, Any] = {}
        for column in self._columns:
            name = column.settings.name
            found = self._histories[name].at(stamp_ns)
            has_value = found.numbers is not None
            if not has_value:
                text = f"column {name} has no value at the image of {stamp_ns} ns: {found.why}"
                note_missing(column.settings.topic, text)
            row[name] = found.numbers if has_value else np.zeros(len(column.numbers))
            row[f"{name}.mask"] = np.bool_(has_value)
            row[f"{name}.stamp_ns"] = np.int64(found.stamp_ns)
            row[f"{name}.age_ns"] = np.int64(stamp_ns - found.stamp_ns if has_value else NO_AGE_NS)
        return row
