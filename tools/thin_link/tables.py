"""The tables of docs/thin_link.md, made of the results. `python -m tools.thin_link tables` prints
them.
"""

from typing import Any

from tools.thin_link.plan import ENCODED, FORMS, LINKS, SHIPPED, THIN, Trial, node_trials
from tools.thin_link.plan import trials as planned

Row = dict[str, Any]


def sizes_table(report: dict[str, Any]) -> str:
    """Return the table of what a form costs."""
    lines = [
        "| form | kB a frame | MB a minute | cosine, mean | worst 1 % | node, ms a camera "
        "| receiver, ms a camera |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        cells = [
            _title(row["form"]),
            f"{row['frame_kB']:.0f}",
            f"{row['MB_minute']:.0f}",
            *(
                f"{row[name]:.{digits}f}" if name in row else ""
                for name, digits in (
                    ("cosine_mean", 4),
                    ("cosine_worst_percent", 4),
                    ("encode_ms_camera", 2),
                    ("decode_ms_camera", 2),
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def link_table(report: dict[str, Any]) -> str:
    """Return the table of frames a second and their age over each link."""
    columns = [(dds, reliable) for dds in (SHIPPED, THIN) for reliable in (False, True)]
    titles = [f"{dds}, {'reliable' if reliable else 'best effort'}" for dds, reliable in columns]
    lines = [f"| link | form | {' | '.join(titles)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for link in LINKS:
        for form in FORMS:
            row = [Trial(link, form, dds, reliable) for dds, reliable in columns]
            cells = [_cell(_result(report, trial)) for trial in row]
            lines.append(f"| {link.name} | {_title(form)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def node_table(report: dict[str, Any]) -> str:
    """Return the table of the trials in which the node itself sent."""
    lines = [
        "| link | sent | frames published | received | age | until the node sends | on the link |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in node_trials():
        row = _result(report, trial)
        is_node = trial.sender == ENCODED
        cells = [
            trial.link.name,
            _title(trial.form),
            f"{row['published'] if is_node else row['sent']}",
            f"{row['arrived']}",
            _ages(row, "age"),
            f"{row['encoded_p50_ms']} ms" if is_node else "",
            _ages(row, "link") if is_node else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ages(row: Row, which: str) -> str:
    """The median and the 99th percentile; empty without a frame."""
    p50, p99 = row[f"{which}_p50_ms"], row[f"{which}_p99_ms"]
    return "" if p50 is None else f"{p50} / {p99} ms"


def settings_table(report: dict[str, Any]) -> str:
    """Return the table of the other trials: one setting changed."""
    lines = [
        "| link | form | settings | cameras | frames a second; age |",
        "| --- | --- | --- | --- | --- |",
    ]
    shown = len(LINKS) * len(FORMS) * 4
    for trial in planned()[shown:]:
        how = f"{trial.dds}, {'reliable' if trial.reliable else 'best effort'}"
        cell = _cell(_result(report, trial))
        rate = f"{trial.rate_hz:g} Hz"
        lines.append(f"| {trial.link.name} | {_title(trial.form)} | {how} | {rate} | {cell} |")
    return "\n".join(lines)


def _result(report: dict[str, Any], trial: Trial) -> Row:
    return next(row for row in report["rows"] if trial.is_of(row))


def _cell(row: Row) -> str:
    """Frames a second, and the age of the median and the 99th percentile."""
    if not row["found"]:
        return "not found"
    if not row["arrived"]:
        return "0"
    return f"{row['frames_s']:.1f}; {row['age_p50_ms']} / {row['age_p99_ms']} ms"


def _title(form: str) -> str:
    if form.startswith("basis_"):
        return f"basis, {form.removeprefix('basis_')} directions"
    return {"images": "the images, JPEG"}.get(form, form)
