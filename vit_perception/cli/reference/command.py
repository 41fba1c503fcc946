"""The subcommand ``reference``; the package's docstring is its help."""

from argparse import ArgumentParser, Namespace

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.paths import user_path
from vit_perception.datasets.reference.learn import Learnt, learn_reference, reads_of
from vit_perception.files.atomic import check_new_file
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.pipeline.monitor.reference_file import FILE_NAME, save_reference
from vit_perception.policy.features import FeatureFiles

EXAMPLES = """
vit-perception reference features --out reference
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "features",
        type=user_path,
        metavar="FEATURES",
        help="folder of `vit-perception embed` with tokens, of the recordings that count as normal",
    )
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="FOLDER", help="folder to write"
    )
    parser.add_argument("--force", action="store_true", help="replace the reference that is there")


def run(args: Namespace) -> int:
    if args.out.exists() and not args.out.is_dir():
        raise InvalidValue(
            f": {args.out} is a file; accepted: a folder, new or not", argument="out"
        )
    if args.out.exists():
        check_new_file(args.out / FILE_NAME, args.force, argument="out")
    files = FeatureFiles(args.features)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("frames read", total=reads_of(files))
        learnt = learn_reference(files, lambda frames: progress.advance(bar, frames))
    save_reference(args.out, learnt.reference)
    print(printable(_text(learnt)))
    print(printable(f"{args.out}: for the parameter monitor.reference"))
    return 0


def _text(learnt: Learnt) -> str:
    """Return the table of what was learnt."""
    lines = ["camera  frames  held out  static patches  noise: x  y px  rotation"]
    for name, camera in learnt.reference.cameras.items():
        frames, held_out = learnt.frames[name]
        static = int(camera.static.sum())
        x_px, y_px, rotation_deg = camera.shift_noise
        shown = (
            f"{x_px:.1f}  {y_px:.1f} px  {rotation_deg:.1f} degrees"
            if camera.has_background
            else "too few: no camera shift"
        )
        lines.append(f"{name}  {frames}  {held_out}  {static} of {len(camera.static)}  {shown}")
    return "\n".join(lines)
