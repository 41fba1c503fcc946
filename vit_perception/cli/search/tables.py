"""Rows of results as a table for people, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import printable

MOST_LETTERS = 48  # of a text in the table for people


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with the same keys as text; numbers stand on the right."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [[_shown(name, row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[k]) for line in cells)) for k, name in enumerate(names)]
    right = [isinstance(rows[0][name], int | float) for name in names]
    lines = [names, *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(line, widths, right)
        ).rstrip()
        for line in lines
    )


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``rows`` to a complete file or none."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_whole(path, lambda file: file.write_text(text.getvalue(), "utf-8"))


def write_json(path: Path, about: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write what was done and ``rows`` to a complete file or none."""
    text = json.dumps({**about, "rows": list(rows)}, indent=1) + "\n"
    write_whole(path, lambda file: file.write_text(text, "utf-8"))


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if name.endswith(("_s", "_hz")) else f"{value:.4f}"
    return printable(str(value), MOST_LETTERS, keep="")
