"""The tables of docs/thin_link.md, made of the results. `python -m tools.thin_link tables` prints
them.
"""

from typing import Any

from tools.thin_link.plan import FORMS, LINKS, RATE_HZ, SHIPPED, THIN
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
            cells = [
                _cell(_row(report, link.name, form, dds, reliable, RATE_HZ))
                for dds, reliable in columns
            ]
            lines.append(f"| {link.name} | {_title(form)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def settings_table(report: dict[str, Any]) -> str:
    """Return the table of the other trials: one setting changed."""
    lines = [
        "| link | form | settings | cameras | frames a second; age |",
        "| --- | --- | --- | --- | --- |",
    ]
    shown = len(LINKS) * len(FORMS) * 4
    for trial in planned()[shown:]:
        key = (trial.link.name, trial.form, trial.dds, trial.reliable, trial.rate_hz)
        how = f"{trial.dds}, {'reliable' if trial.reliable else 'best effort'}"
        cell = _cell(_row(report, *key))
        rate = f"{trial.rate_hz:g} Hz"
        lines.append(f"| {key[0]} | {_title(trial.form)} | {how} | {rate} | {cell} |")
    return "\n".join(lines)


def _row(
    report: dict[str, Any], link: str, form: str, dds: str, reliable: bool, rate_hz: float
) -> Row:
    wanted = {"link": link, "form": form, "dds": dds, "reliable": reliable, "rate_hz": rate_hz}
    return next(row for row in report["rows"] if wanted.items() <= row.items())


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
