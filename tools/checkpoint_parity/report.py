"""The rows as a table for people and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tools.checkpoint_parity.rows import Row

BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"
_TITLES = (
    "family",
    "what",
    "its origin",
    "tokens",
    "logits",
    "pixels",
    "load s, here / origin",
    "note",
)


def table(rows: list[Row]) -> str:
    """A Markdown table; ``-`` for what was not compared."""
    lines = [_line(_TITLES), _line(["---"] * len(_TITLES))]
    for row in rows:
        loads = f"{_number(row.load_s, '.2f')} / {_number(row.origin_load_s, '.2f')}"
        lines.append(
            _line(
                [
                    row.family,
                    row.what,
                    row.origin,
                    _number(row.tokens, ".1e"),
                    _number(row.logits, ".1e"),
                    _number(row.preprocessing, ".3f"),
                    loads,
                    row.note,
                ]
            )
        )
    return "\n".join(lines)


def write_into(path: Path, text: str) -> None:
    """Put ``text`` between the two markers in ``path``. Raises ValueError where it does not hold
    both.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks {BEGIN} or {END}; accepted: both, in this order")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def write_json(path: Path, groups: Mapping[str, list[Row]]) -> None:
    """The rows of each group with every digit."""
    plain = {group: [asdict(row) for row in rows] for group, rows in groups.items()}
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, list[Row]]:
    """What :func:`write_json` wrote; nothing where there is no file."""
    if not path.exists():
        return {}
    plain = json.loads(path.read_text(encoding="utf-8"))
    return {group: [Row(**fields) for fields in rows] for group, rows in plain.items()}


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"
