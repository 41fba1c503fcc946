"""Columns of recordings: ``NAME=TOPIC[:FIELD][@hold|@linear[:SECONDS]]``."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from vit_perception.config.checks import BadSetting
from vit_perception.recordings.numbers.field_path import ACCEPTED_PATH, parsed_path
from vit_perception.recordings.storage import Unreadable

BETWEEN = ("hold", "linear")
ACCEPTED = (
    "NAME=TOPIC[:FIELD][@hold or @linear[:SECONDS]], as action=/arm/command:position[0:7]@hold"
)
MOST_COLUMNS = 64
LONGEST_S = 86400.0
# Two samples that are further apart have a gap between them, not a line.
LINEAR_S = 1.0
# Columns that every row has.
TAKEN = (
    "index",
    "source",
    "episode",
    "layout",
    "stamp_ns",
    "recorded_ns",
    "tokens",
    "mask",
    "embedding",
    "stamps_ns",
    "poses",
    "states",
    "chunks",
    "chunk_masks",
)
_COLUMN = re.compile(
    r"(?P<name>[A-Za-z]\w*)=(?P<topic>[^\s:@=]+)(?::(?P<field>[^\s@=]+))?"
    r"(?:@(?P<between>[a-z]+)(?::(?P<longest_s>\d+\.?\d*|\.\d+))?)?",
    re.ASCII,
)


class ColumnSettings(NamedTuple):
    """A field of a topic that becomes a column."""

    name: str
    topic: str
    # Empty for the whole message without its header.
    field: str
    # ``hold``: the latest sample at or before the image. ``linear``: between the two around it.
    between: str
    # hold: the oldest sample that is taken, 0 for any. linear: the widest gap between two samples.
    longest_s: float

    @property
    def text(self) -> str:
        """The column as it is written."""
        field = f":{self.field}" if self.field else ""
        longest = f":{self.longest_s!r}" if self.longest_s else ""
        return f"{self.name}={self.topic}{field}@{self.between}{longest}"


def column_settings(texts: Iterable[str], sources: Iterable[str] = ()) -> list[ColumnSettings]:
    """Return the columns that ``texts`` describe.

    ``sources`` are names of cameras, arms and so on, which columns must not have.

    Raises:
        BadSetting: a text is no column, or two columns have one name.
    """
    columns: list[ColumnSettings] = []
    used = {*TAKEN, *sources}
    for text in texts:
        column = _column(text)
        if column.name in used:
            raise BadSetting(
                "columns",
                text,
                "a name that no other column, camera, arm or state has, and none of "
                f"{', '.join(TAKEN)}",
            )
        used.add(column.name)
        columns.append(column)
    if len(columns) > MOST_COLUMNS:
        raise BadSetting("columns", f"{len(columns)} columns", f"at most {MOST_COLUMNS}")
    return columns


def _column(text: str) -> ColumnSettings:
    match = _COLUMN.fullmatch(text)
    if match is None or (match["between"] or "hold") not in BETWEEN:
        raise BadSetting("columns", text, ACCEPTED)
    between = match["between"] or "hold"
    longest_s = LINEAR_S if between == "linear" else 0.0
    if match["longest_s"]:
        longest_s = float(match["longest_s"][:20])
        if not 0.0 < longest_s <= LONGEST_S:
            raise BadSetting("columns", text, f"above 0 and at most {LONGEST_S:g} s behind @")
    field = match["field"] or ""
    try:
        parsed_path(field)
    except Unreadable as error:
        raise BadSetting("columns", text, f"a field of {ACCEPTED_PATH}: {error}") from error
    return ColumnSettings(
        name=match["name"],
        topic=match["topic"],
        field=field,
        between=between,
        longest_s=longest_s,
    )
