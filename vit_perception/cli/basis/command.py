"""The subcommand ``basis``; the package's docstring is its help."""

from argparse import ArgumentParser, Namespace

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.paths import user_path
from vit_perception.datasets.learn_basis import Kept, Learnt, learn_basis
from vit_perception.files.atomic import check_new_file, write_whole
from vit_perception.files.errors import printable
from vit_perception.policy.basis_file import save_basis
from vit_perception.policy.features import FeatureFiles

EXAMPLES = """
vit-perception basis features --out basis.safetensors
vit-perception basis features --dims 32 --out basis_32.safetensors --curve basis_32.png
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "features",
        type=user_path,
        metavar="FEATURES",
        help="folder of `vit-perception embed` with tokens, of this encoder and block",
    )
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="FILE", help="safetensors file to write"
    )
    parser.add_argument(
        "--dims",
        type=int,
        default=64,
        metavar="K",
        help="number of directions, which is also the bytes of a patch token without its scale "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--curve",
        type=user_path,
        metavar="PNG",
        help="draw what each number of directions keeps (needs matplotlib)",
    )
    parser.add_argument("--force", action="store_true", help="replace the files that are there")


def run(args: Namespace) -> int:
    check_new_file(args.out, args.force, argument="out")
    if args.curve:
        check_new_file(args.curve, args.force, argument="curve")
    files = FeatureFiles(args.features)
    learnt = _with_progress(files, args.dims)
    save_basis(args.out, learnt.basis, files.layouts[0].model)
    print(_text(learnt))
    print(printable(f"{args.out}: {args.dims} directions, sha256 {learnt.basis.sha256[:16]}"))
    if args.curve:
        from vit_perception.viewing.basis_curve import curve_png

        drawn = curve_png(learnt)
        write_whole(args.curve, lambda partial: partial.write_bytes(drawn))
        print(printable(f"{args.curve}: what each number of directions keeps"))
    return 0


def _with_progress(files: FeatureFiles, dims: int) -> Learnt:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("frames", total=len(files))
        return learn_basis(files, dims, lambda frames: progress.advance(bar, frames))


def _text(learnt: Learnt) -> str:
    """Return the table of what is kept."""
    width = learnt.basis.width
    lines = [
        f"learnt from {learnt.frames} frames; measured on the {learnt.held_out_frames} that end "
        "the episodes:",
        "directions  bytes a patch  of float32  variance  cosine  worst 1 %",
        *(_row(kept, width, kept == learnt.kept) for kept in learnt.curve),
    ]
    return "\n".join(lines)


def _row(kept: Kept, width: int, chosen: bool) -> str:
    share = 100 * kept.bytes_per_token / (4 * width)
    return (
        f"{kept.dims:10d}  {kept.bytes_per_token:13d}  {share:8.1f} %  {100 * kept.variance:6.1f} %"
        f"  {kept.mean_cosine:.4f}  {kept.worst_cosine:9.4f}{'  <- this file' if chosen else ''}"
    )
