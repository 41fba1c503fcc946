"""One screen about an encoder node, as text."""

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticStatus

from vit_perception.files.errors import printable
from vit_perception.ros.health.first_words import waits_for
from vit_perception.ros.health.status_watch import Snapshot
from vit_perception.wire.layout import Layout

_LONGEST = 200  # characters of one text: /diagnostics may hold anybody's
_ENGINE = "engine"


def screen(seen: Snapshot) -> str:
    """Return what is known of the node, one line each, for people."""
    lines = [_head(seen)]
    engine = seen.statuses.get(_ENGINE)
    lines.append(f"engine    {_engine(engine)}")
    if seen.layout is not None:
        lines.append(f"tokens    {_tokens(seen.layout)}")
    lines.append(f"frames    {_frames(seen.statuses)}")
    inputs = {n: s for n, s in seen.statuses.items() if "received" in _values(s)}
    lines += ["inputs", *_table([_input_row(n, s) for n, s in inputs.items()])]
    lines += ["drops", *_table([_drop_row(n, s) for n, s in inputs.items()])]
    rows = [[o.name, o.type, f"{o.subscribers} subscribers"] for o in seen.outputs]
    lines += ["outputs", *_table(rows)]
    return "\n".join(lines)


def _head(seen: Snapshot) -> str:
    state = seen.state or "no answer, it is busy with a transition"
    parts = [f"{seen.node}: {state}"]
    if waits := waits_for(seen.node, seen.state):
        parts.append(waits)
    if seen.diagnostics_age_s is not None:
        parts.append(f"last diagnostics {seen.diagnostics_age_s:.1f} s ago")
    elif seen.state in ("active", "inactive"):
        parts.append("no diagnostics come")
    if seen.processes > 1:
        parts.append(f"WARNING: {seen.processes} nodes have this name")
    return "; ".join(parts)


def _engine(status: DiagnosticStatus | None) -> str:
    if status is None:
        return "not open"
    values = _values(status)
    if "runtime" not in values:
        return _text(status.message)
    runs, precision, device = (values.get(k, "?") for k in ("runtime", "precision", "device"))
    model, cosine = (values.get(k, "?") for k in ("model", "min_cosine"))
    return f"{runs} {precision} on {device}, {model}, cosine {cosine}: {_text(status.message)}"


def _tokens(layout: Layout) -> str:
    groups = ", ".join(f"{g.name} {g.stop - g.start}" for g in layout.groups if not g.step)
    history = f", of {layout.history.frames} frames" if layout.history else ""
    return _text(f"{layout.token_count} x {layout.width} {layout.dtype}: {groups}{history}")


def _frames(statuses: Mapping[str, DiagnosticStatus]) -> str:
    latency = statuses.get("latency")
    if latency is None:
        return "none"
    ages = [
        f"{name.removeprefix('camera ')} {age}"
        for name, status in statuses.items()
        if (age := _values(status).get("latency_ms.age"))
    ]
    said = f"; age p50 / p99 in ms: {', '.join(ages)}" if ages else ""
    return f"{_values(latency).get('rate_hz', '?')} Hz{said}"


def _input_row(name: str, status: DiagnosticStatus) -> list[str]:
    values = _values(status)
    kinds = [f"{values[k]} {k}" for k in ("interpolated", "held", "missing") if k in values]
    age = f"{values['age_s']} s ago" if "age_s" in values else "never"
    return [
        _text(name),
        values.get("topic", ""),
        f"{values.get('rate_hz', '?')} Hz",
        age if values.get("received") != "0" else "never",
        "; ".join([_text(status.message), *filter(None, [", ".join(kinds)])]),
    ]


def _drop_row(name: str, status: DiagnosticStatus) -> list[str]:
    values = _values(status)
    reasons = [
        f"{key.partition('.')[2]} {value}"
        for key, value in values.items()
        if key.startswith(("dropped.", "refused."))
    ]
    return [_text(name), f"of {values['received']} received: {', '.join(reasons) or 'none'}"]


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {_text(v.key): _text(v.value) for v in status.values}


def _text(text: str) -> str:
    return printable(text, _LONGEST, keep="")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["  none"]
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]
