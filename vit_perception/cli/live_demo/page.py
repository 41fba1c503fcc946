"""What the demo found, as one HTML file that needs no other file and no network."""

import base64
import html
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from vit_perception.cli.live_demo.report import DemoRun, best_class
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.viewing.html_report import COLOURS, STYLE, Curves, chart

PAGE_STYLE = (
    "p,li{line-height:1.45;max-width:900px}pre{background:#f4f3ef;padding:12px;overflow-x:auto}"
    "td,th{vertical-align:top;padding-bottom:6px}th{white-space:nowrap}"
    ".good{color:#00704d}.bad{color:#b23a00}"
    ".strip{display:flex;margin:6px 1% 6px 6%;color:#fff;font-size:13px}"
    ".strip span{padding:2px 0;text-align:center;overflow:hidden;white-space:nowrap}"
)
# What a reason for a drop means; docs/robots_day.md has all of them.
REASONS = {
    "superseded": "a newer image was there before this one's turn",
    "unmatched": "no image of the other camera near it",
    "late": "it came after newer ones were encoded",
    "pose_missing": "no pose near it",
}


def write_page(
    *, demo: DemoRun, summary: dict, failed: list[str], sheet: Path, steps: str, path: Path
) -> None:
    """Write the page to ``path``. ``sheet`` is the contact sheet, which may not be there."""
    name = text_of(demo.bag_path.name)
    parts = [
        f"<h1>What the robot sees: {name}</h1>",
        verdict(failed),
        f"<p>A recorded robot arm was played to the encoder node, live over ROS 2: two cameras and "
        f"the pose of the hand. The node turned each pair of images into tokens, and named the "
        f"stage of the task ({text_of(', '.join(summary['classification']['labels']))}).</p>",
        "<h2>Pictures</h2>",
        picture(sheet),
        "<h2>Stage of the task over time</h2>",
        *stages(demo),
        "<h2>Numbers</h2>",
        table(rows_of(summary)),
        "<h2>From sending an image until its tokens were here</h2>",
        *latencies(demo),
        "<h2>What to do next</h2>",
        f"<pre>{html.escape(printable(steps))}</pre>",
    ]
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>"
        f"<style>{STYLE}{PAGE_STYLE}</style>{''.join(parts)}</html>\n"
    )
    write_whole(path, lambda file: file.write_text(text, "utf-8"))


def text_of(text: str) -> str:
    """Return a recording's text for HTML: escaped, printable and cut."""
    return html.escape(printable(str(text), MOST_SHOWN, keep=""))


def verdict(failed: list[str]) -> str:
    """Return one line: whether the demo kept what it promises."""
    if not failed:
        return (
            "<p class=good><b>It worked.</b> Every image is accounted for, and the stage was right "
            "in nine of ten frames or more.</p>"
        )
    items = "".join(f"<li>{text_of(each)}</li>" for each in failed)
    return f"<p class=bad><b>Something is not as it should be:</b></p><ul class=bad>{items}</ul>"


def picture(sheet: Path) -> str:
    """Return the contact sheet with what its columns mean."""
    if not sheet.exists():
        return "<p>There is no picture: of no frame did everything arrive.</p>"
    data = base64.b64encode(sheet.read_bytes()).decode()
    return (
        "<p>Each row is one moment. Of each camera: the image as the model sees it; its patch "
        "tokens as colours, where like colours mean like features; and what the CLS token attends "
        "to. On the right the hand's path, from above.</p>"
        f"<img alt='contact sheet' src='data:image/png;base64,{data}'>"
    )


def stages(demo: DemoRun) -> list[str]:
    """Return the true stages as a strip, and the scores of each class below it."""
    scored = [(s, f) for s, f in sorted(demo.frames.items()) if f.classes]
    if not scored:
        return ["<p>No classification came.</p>"]
    names = sorted(
        {*demo.stages.values(), *(n for _, f in scored for c in f.classes.values() for n in c)}
    )
    first_ns, last_ns = scored[0][0], scored[-1][0]
    true = [name for s, name in sorted(demo.stages.items()) if first_ns <= s <= last_ns]
    curves = Curves(title="", unit="score")
    for stamp_ns, frame in scored:
        for name in names:
            scores = [classes.get(name, 0.0) for classes in frame.classes.values()]
            curves.add(name, _seconds(demo, stamp_ns), sum(scores) / len(scores))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    right = [best_class(f.classes)[0] == demo.stages[s] for s, f in scored if s in demo.stages]
    return [
        "<p>Above, the true stage; below, the mean of the two cameras' scores. "
        f"{sum(right)} of {len(right)} frames are right.</p>",
        strip(true, colours),
        drawn(curves),
    ]


def strip(labels: list[str], colours: dict[str, str]) -> str:
    """Return labels that follow one another as coloured pieces of a line."""
    pieces = [(label, len(list(same))) for label, same in groupby(labels)]
    return "<div class=strip>{}</div>".format(
        "".join(
            f"<span style='flex:{count};background:{colours[label]}'>{text_of(label)}</span>"
            for label, count in pieces
        )
    )


def latencies(demo: DemoRun) -> list[str]:
    """Return the latency of each frame as a chart."""
    sent = demo.sent.read()
    curves = Curves(title="", unit="ms")
    for stamp_ns, frame in sorted(demo.frames.items()):
        if stamp_ns in sent:
            age_ms = (frame.received_ns - sent[stamp_ns]) / 1e6
            curves.add("latency", _seconds(demo, stamp_ns), age_ms)
    return [drawn(curves)] if curves.lines else ["<p>No tokens came.</p>"]


def drawn(curves: Curves) -> str:
    """Return a chart, or a line that says why there is none."""
    if find_spec("matplotlib") is None:
        return "<p>The chart is left out: matplotlib is not installed.</p>"
    return chart(curves)


def rows_of(summary: dict) -> dict[str, str]:
    """Return the numbers of summary.json in words."""
    dropped = [
        f"{count} {reason}{f' ({REASONS[reason]})' if reason in REASONS else ''}"
        for reason, count in summary["frames_dropped"].items()
    ]
    latency = summary["latency_ms"]
    engine = summary["engine"]
    classes = summary["classification"]
    skew = summary["pose_skew_ms"]
    return {
        "images": f"{summary['frames_sent']} sent, {summary['frames_received']} received, "
        f"{summary['frames_published']} published in {summary['groups_published']} pairs",
        "images not published": "; ".join(dropped) or "none",
        "latency": f"median {_number(latency['p50'])} ms; 99 of 100 within "
        f"{_number(latency['p99'])} ms. On a slow or busy computer it is longer, and more images "
        "are superseded.",
        "engine": f"{engine['runtime']}, {engine['precision']}; its features agree with the "
        f"float32 model to a cosine of {_number(engine['min_cosine'])}",
        "stage accuracy": "; ".join(
            [
                f"{_percent(classes['accuracy'])} with both cameras",
                *(
                    f"{name} alone {_percent(a)}"
                    for name, a in classes["accuracy_by_camera"].items()
                ),
            ]
        ),
        "pose": f"nearest sample {_number(skew['p50'])} ms from the image in the median, "
        f"{_number(skew['max'])} ms at most; interpolated to the image's stamp",
    }


def table(rows: dict[str, str]) -> str:
    """Return rows of a name and a text."""
    return "<table>{}</table>".format(
        "".join(f"<tr><th>{text_of(k)}</th><td>{text_of(v)}</td></tr>" for k, v in rows.items())
    )


def _seconds(demo: DemoRun, stamp_ns: int) -> float:
    return (stamp_ns - demo.start_ns) / 1e9


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
