"""Files of a LeRobot data set: each is inside the set, whatever its cells and templates say."""

import re
from pathlib import Path
from typing import Any

from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import check_regular

FIELDS = ("video_key", "chunk_index", "file_index", "episode_index", "episode_chunk")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")(?::0?(\d{1,2})d)?\}")
_MOST_TEMPLATE = 500
_MOST_DIGITS = 20


def filled(template: str, fields: dict[str, Any]) -> str:
    """Fill ``template``, with fields such as ``{video_key}`` or ``{chunk_index:03d}``.

    Raises:
        InvalidValue: Another field or format, or a width of more than 20 digits.
    """

    def value_of(match: re.Match) -> str:
        name, width = match.groups()
        if name not in fields or int(width or 0) > _MOST_DIGITS:
            raise InvalidValue(accepted)
        return f"{int(fields[name]):0{int(width)}d}" if width else str(fields[name])

    accepted = (
        f"the template {shown(template)} cannot be filled; accepted: a path with fields such as "
        f"{', '.join(f'{{{name}}}' for name in fields)}, numbers with at most {_MOST_DIGITS} "
        "digits as :03d"
    )
    if len(template) > _MOST_TEMPLATE or re.search(r"[{}]", _FIELD.sub("", template)):
        raise InvalidValue(accepted)
    try:
        return _FIELD.sub(value_of, template)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValue(accepted) from error


class SetFiles:
    """The folder of one data set. Links are followed as long as they end in it.

    The cache of the Hugging Face hub is the one exception: a snapshot there is made of links to the
    files in ``blobs`` of the same data set.
    """

    def __init__(self, root: Path):
        self.root = root
        real = root.resolve()
        self._allowed = [real]
        if real.parent.name == "snapshots" and real.parent.parent.name.startswith("datasets--"):
            self._allowed.append(real.parent.parent / "blobs")

    def inside(self, relative: str | Path) -> Path:
        """Return the path of a regular file of the set.

        Raises:
            InvalidValue: It is outside of the set, or irregular.
            OSError: There is no such file.
        """
        if "\0" in str(relative):
            raise InvalidValue(
                f"{shown(str(relative))} is no path; accepted: a file of the data set"
            )
        try:
            real = (self.root / relative).resolve(strict=True)
        except RuntimeError as error:  # links in a circle, before Python 3.13
            raise InvalidValue(
                f"{shown(str(relative))} is a link in a circle; accepted: a file"
            ) from error
        if not any(real.is_relative_to(folder) for folder in self._allowed):
            raise InvalidValue(
                f"{shown(str(relative))} lies outside of {self.root}; accepted: files of the data "
                "set"
            )
        check_regular(real)
        return real

    def matching(self, pattern: str) -> list[Path]:
        """Return the set's files of this pattern, sorted, as paths below its root.

        Raises:
            InvalidValue: As :meth:`inside`.
        """
        found = sorted(self.root.glob(pattern))
        for path in found:
            self.inside(path.relative_to(self.root))
        return found
