"""The subcommand ``search``; the package's docstring is its help."""

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from pathlib import Path

from vit_perception.cli.paths import user_path
from vit_perception.cli.search import choosing, finding
from vit_perception.config.backends import BACKEND_NAMES, PRECISIONS
from vit_perception.files.atomic import check_new_file
from vit_perception.files.errors import InvalidValue

EXAMPLES = """
vit-perception search features --image can.jpg --sheet cans.png
vit-perception search features --frame pick_place_demo@3.2 --regions --box 120 80 40 40
vit-perception search features --text "gripper above a red can" --csv found.csv
vit-perception search monday tuesday --frames failures.txt --count 30 --json found.json
vit-perception search features --dedup --within 0.02 --csv copies.csv
vit-perception search features --diverse 200 --csv label_these.csv
vit-perception search features --episodes
"""
WAYS = ("image", "frame", "frames", "text", "dedup", "diverse", "episodes")
# Options that have a meaning only for some of the ways.
ONLY = {
    "regions": ("image", "frame", "frames"),
    "box": ("image", "frame"),
    "count": ("image", "frame", "frames", "text"),
    "apart_s": ("image", "frame", "frames", "text"),
    "per_episode": ("image", "frame", "frames", "text"),
    "method": ("image", "frame", "frames", "text"),
    "index": ("image", "frame", "frames", "text"),
    "sheet": ("image", "frame", "frames", "text", "diverse"),
    "within": ("dedup",),
    "checkpoint": ("image", "frame", "frames", "text"),
    "backend": ("image", "frame", "frames"),
    "precision": ("image", "frame", "frames"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "features",
        type=user_path,
        nargs="+",
        metavar="FEATURES",
        help="folders of `vit-perception embed` (parquet or safetensors), all of one encoder",
    )
    _add_ways(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--camera", action="append", default=[], metavar="NAME", help="only this one (default: all)"
    )
    what.add_argument("--encoder", default="", metavar="NAME", help="of several in the features")
    what.add_argument(
        "--regions",
        action="store_true",
        default=None,
        help="compare patch tokens: which part of a picture matches",
    )
    what.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="with --regions: the part of the query's picture in px (default: all of it)",
    )
    _add_results(parser)
    model = parser.add_argument_group("the model, for pictures, texts and frames of other bags")
    model.add_argument(
        "--checkpoint",
        metavar="MODEL",
        help="where the features' checkpoint lies (default: as the manifest says)",
    )
    model.add_argument("--backend", choices=("auto", *BACKEND_NAMES), help="runtime")
    model.add_argument("--precision", choices=("auto", *PRECISIONS), help="of its numbers")


def _add_ways(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "one of these; --image and --frame may be given several times, also together"
    )
    group.add_argument(
        "--image", type=user_path, action="append", metavar="PICTURE", help="like this picture"
    )
    group.add_argument(
        "--frame",
        action="append",
        metavar="BAG@TIME",
        help="like this frame: the recording's name, and s since its first frame (12.5) or its "
        "stamp (1700000000500000000ns); of a bag that is not in FEATURES its path",
    )
    group.add_argument(
        "--frames", type=user_path, metavar="FILE", help="like these: one BAG@TIME a line"
    )
    group.add_argument(
        "--text", action="append", help="what is in the picture (CLIP, SigLIP, TIPS v2)"
    )
    group.add_argument(
        "--dedup", action="store_true", default=None, help="groups of near-identical frames"
    )
    group.add_argument(
        "--diverse", type=int, metavar="N", help="N frames that differ most, to label or train on"
    )
    group.add_argument(
        "--episodes",
        action="store_true",
        default=None,
        help="a row an episode: length, gaps, dropped images, novelty",
    )


def _add_results(parser: ArgumentParser) -> _ArgumentGroup:
    group = parser.add_argument_group("results")
    group.add_argument("--count", type=int, metavar="N", help="how many (default: 10)")
    group.add_argument(
        "--apart-s",
        type=float,
        metavar="S",
        help="least time between results of one episode (default: 2)",
    )
    group.add_argument(
        "--per-episode",
        type=int,
        metavar="N",
        help="most results of one episode; 0 is no limit (default: 3)",
    )
    group.add_argument(
        "--within",
        type=float,
        metavar="X",
        help="with --dedup: the largest distance of near-identical frames (default: 0.01)",
    )
    group.add_argument(
        "--method",
        choices=("auto", "exact", "lancedb"),
        help="auto: exact up to 100,000 frames, then lancedb",
    )
    group.add_argument(
        "--index",
        type=user_path,
        metavar="FOLDER",
        help="where the LanceDB index lies (default: in the cache)",
    )
    group.add_argument(
        "--sheet", type=user_path, metavar="PNG", help="a sheet of the pictures, from the bags"
    )
    group.add_argument(
        "--bags",
        type=user_path,
        nargs="+",
        metavar="FOLDER",
        help="where the bags lie, up to four folders deep (default: the current folder, and that "
        "of FEATURES)",
    )
    group.add_argument("--csv", type=user_path, metavar="FILE", help="the table as CSV")
    group.add_argument("--json", type=user_path, metavar="FILE", help="the table as JSON")
    group.add_argument("--force", action="store_true", help="replace the files that are there")
    return group


def run(args: Namespace) -> int:
    way = check(args)
    for name in ("sheet", "csv", "json"):
        path: Path | None = getattr(args, name)
        if path is not None:
            check_new_file(path, args.force, argument=name)
    if way in ("dedup", "diverse", "episodes"):
        return choosing.run(args, way)
    return finding.run(args)


def check(args: Namespace) -> str:
    """Return what is asked for; refuse what would be ignored.

    Raises:
        InvalidValue: Options do not go together.
    """
    given = [way for way in WAYS if getattr(args, way) is not None]
    together = {"image", "frame", "frames"}
    if not given or (len(given) > 1 and not set(given) <= together):
        said = " and ".join(f"--{way}" for way in given) or "none of them"
        raise InvalidValue(
            f"{said} given; accepted: one of {', '.join(f'--{way}' for way in WAYS)}, of which "
            "--image, --frame and --frames go together"
        )
    for name, ways in ONLY.items():
        if getattr(args, name) is not None and not set(given) & set(ways):
            raise InvalidValue(
                f"--{name.replace('_', '-')} has no meaning with --{given[0]}; accepted: without it"
            )
    if args.box is not None and not args.regions:
        raise InvalidValue("--box is given without --regions; accepted: both, or neither")
    if args.bags and not args.sheet:
        raise InvalidValue("--bags is given without --sheet; accepted: both, or neither")
    return given[0]
