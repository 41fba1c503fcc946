"""Look at a recording as the encoder sees it: an .rrd file for Rerun, and an HTML report.

Both show images, PCA of the patch tokens, attention, the path of each arm, classification and
latency over time.
"""

import sys
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from importlib.util import find_spec

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.paths import add_bag_argument, user_path
from vit_perception.cli.pipeline_options import (
    add_pipeline_arguments,
    drop_lines,
    skip_lines,
    what_is_given,
    with_overrides,
)
from vit_perception.datasets.encode_recording import Dropped, SkippedMessages
from vit_perception.datasets.without_parameters import settings_without_parameters
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.kind import check_recording
from vit_perception.recordings.reader import BagReader
from vit_perception.viewing.contact_sheet import draw_sheet
from vit_perception.viewing.html_report import ReportData, require_charts, write_report
from vit_perception.viewing.inspect_frames import SHEET_ROWS, inspected
from vit_perception.viewing.rerun_entities import rerun_sdk
from vit_perception.viewing.rerun_log import NEEDED_BY, RerunLog

FORMATS = ("auto", "rrd", "html", "both")
EXAMPLES = """
vit-perception inspect data/demo/pick_place_demo --params config/demo.yaml --out look
vit-perception inspect data/demo/pick_place_demo --out look --format html
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_bag_argument(parser)
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        metavar="FOLDER",
        help="for report.html, contact_sheet.png and <bag>.rrd; such files are replaced",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="html, rrd for the Rerun viewer, or both "
        "(default: auto, which is both if rerun-sdk is installed, else html)",
    )
    add_pipeline_arguments(parser)


def run(args: Namespace) -> int:
    check_recording(args.bag)
    if args.out.exists() and not args.out.is_dir():
        raise InvalidValue(f"--out: {args.out} is a file; accepted: a folder, new or not")
    settings = what_is_given(args)[0] or settings_without_parameters(args.bag)
    with_rrd = args.format in ("rrd", "both") or (
        args.format == "auto" and find_spec("rerun") is not None
    )
    if args.format == "auto" and not with_rrd:
        print("no .rrd: rerun-sdk is not installed (pip install rerun-sdk)", file=sys.stderr)
    if with_rrd:
        rerun_sdk(NEEDED_BY)  # a missing one is reported before the model is loaded
    if args.format != "rrd":
        require_charts()
    with BagReader(args.bag) as bag:
        with Heartbeat(PrintedLog()) as log:
            pipeline = Pipeline.open(with_overrides(settings, args), log)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            rrd = args.out / f"{args.bag.stem}.rrd"
            with RerunLog(rrd, args.bag.stem) if with_rrd else nullcontext() as log:
                data, rows = look(pipeline, bag, log)
                if not rows:
                    why = (
                        "; ".join(drop_lines(data.dropped, data.drop_texts))
                        or "its topics are empty"
                    )
                    raise InvalidValue(
                        f"no frame of {args.bag} could be encoded: {why}; accepted: images on "
                        f"{', '.join(c.topic for c in settings.cameras)}"
                    )
            facts = facts_of(pipeline, bag, data)
        finally:
            pipeline.close()
    written = [rrd] if with_rrd else []
    if args.format != "rrd":
        sheet = draw_sheet(
            rows,
            f"{args.bag.name}: {facts['model']} on {facts['engine']}",
            time_is="time since the first frame",
            paths=data.paths(p.name for p in settings.poses),
        )
        write_whole(args.out / "contact_sheet.png", lambda file: sheet.save(file, "PNG"))
        write_report(
            path=args.out / "report.html", title=args.bag.name, facts=facts, data=data, sheet=sheet
        )
        written += [args.out / "report.html", args.out / "contact_sheet.png"]
    print(
        "\n".join(
            [
                f"{data.frames} frames; written: {', '.join(map(str, written))}",
                *drop_lines(data.dropped, data.drop_texts),
                *skip_lines(data.skips.rows()),
            ]
        )
    )
    return 0


def look(pipeline: Pipeline, bag: BagReader, log: RerunLog | None) -> tuple[ReportData, list]:
    """Encode every frame once: for the log, the report's charts, and a few images."""
    total = bag.count(pipeline.settings.cameras[0].topic)
    shown = {round((k + 0.5) * total / SHEET_ROWS - 0.5) for k in range(SHEET_ROWS)}
    data = ReportData()
    rows = []
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=total)
        for frame in inspected(pipeline, bag):
            if isinstance(frame, SkippedMessages):
                data.skips.update(frame)
                continue
            progress.advance(bar)
            if isinstance(frame, Dropped):
                data.drop(frame)
                continue
            # Rows have one panel per camera: a frame without one is not drawn.
            if len(frame.panels) == len(pipeline.settings.cameras) and (
                data.frames in shown or not rows
            ):
                rows.append(frame.sheet_row())
            data.add(frame)
            if log is not None:
                log.add(frame)
    return data, rows


def facts_of(pipeline: Pipeline, bag: BagReader, data: ReportData) -> dict[str, str]:
    """Return the table at the top of the report."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in data.dropped.items()) or "none"
    left_out = (
        ", ".join(f"{row['count']} {row['reason']} of {row['topic']}" for row in data.skips.rows())
        or "nothing"
    )
    return {
        "recording": f"{bag.path.name}, {(bag.end_ns - bag.start_ns) / 1e9:.2f} s",
        "frames": str(data.frames),
        "dropped": dropped,
        "other messages left out": left_out,
        "model": ", ".join(encoder.card.name for encoder in pipeline.parts.encoders),
        "engine": "; ".join(
            f"{opened.engine.runtime}, {opened.engine.precision}"
            for opened in pipeline.every_opened
        ),
        "cameras": ", ".join(f"{c.name} ({c.topic})" for c in pipeline.settings.cameras),
        "arms": ", ".join(f"{p.name} ({p.topic})" for p in pipeline.settings.poses) or "none",
    }
