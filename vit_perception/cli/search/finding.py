"""`search` for the frames nearest to a query."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.search.sheets import sheet_of, write_sheet
from vit_perception.cli.search.tables import table, write_csv, write_json
from vit_perception.datasets.search.encode_query import QueryEncoder
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.find import Found, find
from vit_perception.datasets.search.frame_times import frame_list, frame_time
from vit_perception.datasets.search.hits import Hit, SpreadRule
from vit_perception.datasets.search.patch_places import Box, places_of_frame
from vit_perception.datasets.search.queries import MadeQueries, Part, frame_queries, text_queries
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog

DEFAULT_COUNT = 10


def run(args: Namespace) -> int:
    asked = [frame_time(text) for text in args.frame or ()]
    asked += frame_list(args.frames) if args.frames is not None else []
    rule = SpreadRule(
        **{n: v for n in ("apart_s", "per_episode") if (v := getattr(args, n)) is not None}
    )
    features = FeatureSet(args.features, args.camera, args.encoder)
    part = Part(bool(args.regions), _box(args, features, len(asked)))
    with Heartbeat(PrintedLog()) as log:
        encoder = QueryEncoder(
            features,
            log,
            checkpoint=args.checkpoint or "",
            backend=args.backend or "",
            precision=args.precision or "",
        )
        try:
            if args.text:
                made = text_queries(encoder, args.text)
            else:
                made = frame_queries(features, encoder, asked, args.image or (), part)
        finally:
            encoder.close()
        found = _found(args, features, made, rule, log)
    rows = [_row(features, made, number, hit) for number, hit in enumerate(found.hits, 1)]
    print(table(rows))
    wanted = args.count if args.count is not None else DEFAULT_COUNT
    fewer = "" if len(rows) == wanted else f" of {wanted} asked for: no other frame passes the rule"
    print(printable(f"{len(rows)} results{fewer}; {found.how}; {rule}"))
    if args.csv:
        write_csv(args.csv, rows)
    if args.json:
        about = {"how": found.how, "spread": str(rule), "encoder_sha256": features.encoder_sha256}
        write_json(args.json, about, rows)
    if args.sheet:
        sheet = sheet_of(features, found.hits, made.asked, rows, bags_of(args), str(rule))
        write_sheet(args.sheet, sheet)
    return 0


def _box(args: Namespace, features: FeatureSet, frames: int) -> Box | None:
    if args.box is None:
        return None
    left, top, width, height = args.box
    if not (width > 0 and height > 0 and abs(left) < 1e6 and abs(top) < 1e6):
        raise InvalidValue(
            f"--box is {left:g} {top:g} {width:g} {height:g}; accepted: x, y, and a width and a "
            "height above 0, in px"
        )
    if frames + len(args.image or ()) != 1 or (frames and len(features.cameras) != 1):
        raise InvalidValue(
            "--box is given with several pictures; accepted: one --image, or one --frame with one "
            "--camera"
        )
    return Box(left, top, left + width, top + height)


def _found(
    args: Namespace, features: FeatureSet, made: MadeQueries, rule: SpreadRule, log: Heartbeat
) -> Found:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), transient=True, disable=not has_terminal()
    ) as progress:
        bar = progress.add_task("frames", total=len(features))
        return find(
            features,
            made.queries,
            args.count if args.count is not None else DEFAULT_COUNT,
            rule=rule,
            method=args.method or "auto",
            regions=bool(args.regions),
            index_folder=args.index,
            log=log,
            advance=lambda frames: progress.advance(bar, frames),
        )


def _row(features: FeatureSet, made: MadeQueries, number: int, hit: Hit) -> dict[str, Any]:
    name = features.name_of(hit.frame)
    row: dict[str, Any] = {
        "rank": number,
        "distance": hit.distance,
        "recording": name.source,
        "time_s": round(name.time_s, 3),
        "stamp_ns": name.stamp_ns,
        "camera": hit.camera,
        "episode": name.episode,
        "query": made.queries.names[hit.query],
    }
    if hit.patch is not None:
        places = places_of_frame(features, hit.frame, hit.camera)
        row["patch"] = hit.patch
        row["box_px"] = "-"
        if places is not None:
            box = places.box(hit.patch)
            row["box_px"] = (
                f"{box.left:.0f} {box.top:.0f} {box.right - box.left:.0f} "
                f"{box.bottom - box.top:.0f}"
            )
    return row


def has_terminal() -> bool:
    """Whether a person watches: a file or a pipe gets no bar of progress."""
    return sys.stdout.isatty()


def bags_of(args: Namespace) -> list[Path]:
    """Return the folders in which the recordings are looked for."""
    return args.bags or [Path("."), *dict.fromkeys(f.resolve().parent for f in args.features)]
