"""Write features of recordings to files: of bags, a folder of images, or a LeRobot data set.

Features equal those that the node would publish, bit for bit with the same engine. An interrupted
run continues when it is started again with the same arguments. No frame is lost or written twice.
"""

import errno
import math
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vit_perception.cli.fleet.options import (
    add_fleet_arguments,
    check_fleet_arguments,
    fleet_to_read,
)
from vit_perception.cli.fleet.run import embed_on_ray, failed_lines, print_plan
from vit_perception.cli.paths import user_path, user_place
from vit_perception.cli.pipeline_options import (
    add_pipeline_arguments,
    drop_lines,
    skip_lines,
    what_to_read,
)
from vit_perception.config.settings import EncoderSettings, OutputSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_columns import DENSE, FEATURES
from vit_perception.datasets.embed_journal import check_out
from vit_perception.datasets.embed_sources import Source
from vit_perception.datasets.shards import FORMATS
from vit_perception.datasets.stored.stored_journal import check_stored_out
from vit_perception.files.errors import InvalidValue, OperationFailed, printable
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog
from vit_perception.files.storage.folder import StorageFolder
from vit_perception.files.storage.local import LocalFolder
from vit_perception.files.storage.urls import folder_of
from vit_perception.pipeline.frames_together import opened_pipeline
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.tensors import ENCODINGS

MEBIBYTE = 1 << 20
EXAMPLES = """
vit-perception embed data/demo/pick_place_train --params config/demo.yaml --out features
vit-perception embed pictures/cup --features cls --out picture_features
vit-perception embed data/demo/pick_place_demo --params config/demo.yaml --format mcap --out tokens
vit-perception embed data/demo/pick_place_train data/demo/pick_place_demo --ray local --out fleet
"""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        type=user_place,
        nargs="+",
        metavar="SOURCE",
        help="rosbag2 folders or files, folders of them, 'globs', s3://BUCKET/PREFIX, @FILE with "
        "one of these a line; or one folder of pictures, or one LeRobot data set",
    )
    parser.add_argument(
        "--out",
        type=user_place,
        required=True,
        help="folder or s3://BUCKET/PREFIX to write: a new one, or that of an interrupted run, "
        "which continues",
    )
    parser.add_argument(
        "--period-s",
        type=float,
        default=0.1,
        metavar="S",
        help="time between two pictures of a folder, which have no stamps (default: %(default)s)",
    )
    add_pipeline_arguments(parser)
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="frames of a bag that are encoded in one run: faster on a GPU. Above 1 the features "
        "equal the node's within the limits of the parity gate, and the manifest says how nearly "
        "(default: %(default)s, equal bit for bit)",
    )
    files = parser.add_argument_group("what is written")
    files.add_argument(
        "--features",
        nargs="+",
        choices=(*FEATURES, DENSE),
        default=[],
        help="what to write; give it after SOURCE (default: tokens embedding cls; for mcap all)",
    )
    files.add_argument(
        "--column",
        action="append",
        default=[],
        dest="columns",
        metavar="NAME=TOPIC[:FIELD][@hold|@linear[:SECONDS]]",
        help="numbers of any topic of the bags at each image's stamp, such as "
        "action=/arm/command:position@linear; may be given several times, and with --params also "
        "as its parameter columns (default: @hold)",
    )
    files.add_argument(
        "--format",
        choices=FORMATS,
        default="parquet",
        help="parquet and safetensors have one row per frame; mcap is a bag with the node's own "
        "topics (default: %(default)s)",
    )
    files.add_argument(
        "--store",
        choices=(*ENCODINGS, "basis"),
        help="form of the tokens: readers restore float32 from int8, and from the coefficients of "
        "--basis (default: as in --params, else float32)",
    )
    files.add_argument(
        "--basis",
        type=user_path,
        metavar="FILE",
        help="file of `vit-perception basis` for --store basis (default: tokens.basis of --params)",
    )
    files.add_argument(
        "--shard-mb",
        type=float,
        default=64.0,
        metavar="MIB",
        help="size of a file in MiB (default: %(default)s)",
    )
    files.add_argument(
        "--shard-frames",
        type=int,
        default=1000,
        metavar="N",
        help="maximum number of frames in a file (default: %(default)s)",
    )
    add_fleet_arguments(parser)


def run(args: Namespace) -> int:
    if not (math.isfinite(args.shard_mb) and args.shard_mb > 0):
        raise InvalidValue(f"--shard-mb is {args.shard_mb}; accepted: more than 0")
    options = EmbedOptions(
        file_format=args.format,
        features=tuple(args.features),
        shard_bytes=max(1, round(args.shard_mb * MEBIBYTE)),
        shard_frames=args.shard_frames,
        batch=args.batch,
    )
    check_fleet_arguments(args)
    out = folder_of(args.out)
    out = out.path if isinstance(out, LocalFolder) else out
    check_out(out) if isinstance(out, Path) else check_stored_out(out)
    fleet = fleet_to_read(args, tuple(args.columns)) if args.ray or args.dry_run else None
    chosen = fleet.chosen if fleet else what_to_read(args, tuple(args.columns))
    settings, sources, node, columns = chosen
    settings = replace(settings, output=_stored_as(settings.output, args.store, args.basis))
    options = replace(options, node=node, columns=columns)
    print(
        printable(
            f"cameras {', '.join(f'{c.name} ({c.topic})' for c in settings.cameras)}"
            + "".join(f"; arm {p.name} ({p.topic})" for p in settings.poses)
            + "".join(f"; joints {s.name} ({s.topic})" for s in settings.states)
        )
    )
    for column in columns:
        print(printable(column.line()))
    if fleet:
        fleet = fleet._replace(chosen=chosen._replace(settings=settings))
        if args.dry_run:
            return print_plan(args, out, fleet, options)
    try:
        if fleet:
            manifest = embed_on_ray(args, out, fleet, options)
        else:
            manifest = with_pipeline(settings, sources, out, options)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OperationFailed(
            str(error),
            hint="finished files are kept; free disk space and run the same command again",
        ) from error
    except KeyboardInterrupt:
        print(
            f"hint: finished files in {args.out} are kept; run the same command again to continue",
            file=sys.stderr,
        )
        raise
    print(
        "\n".join(
            [
                f"{manifest['frames']} frames in {len(manifest['shards'])} files of {args.out}",
                *batch_lines(manifest),
                *drop_lines(manifest["dropped"], manifest.get("drop_texts", {})),
                *skip_lines(manifest.get("skipped", [])),
            ]
        )
    )
    if lines := failed_lines(manifest):
        print("\n".join(lines), file=sys.stderr)
        return 1
    if not manifest["frames"]:
        print(
            "no frame came out; accepted: images on "
            f"{', '.join(c.topic for c in settings.cameras)}, with all that "
            "the settings require",
            file=sys.stderr,
        )
        return 1
    return 0


def batch_lines(manifest: dict) -> list[str]:
    """Return the line that says how near frames together are to single ones; [] without any."""
    if "batch" not in manifest:
        return []
    figures = manifest["batch"]
    return [
        f"{manifest['run']['batch']} frames together: CLS cosine to single frames at least "
        f"{figures['cls_cosine']:.6f}, worst patch {figures['worst_patch_cosine']:.6f}, relative "
        f"L2 at most {figures['tokens_l2']:.2g}, of {figures['images']} images"
    ]


class RateColumn(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _stored_as(output: OutputSettings, store: str | None, basis: Path | None) -> OutputSettings:
    """Return ``output`` with the form that ``--store`` and ``--basis`` ask for.

    Raises:
        InvalidValue: There is a basis without its form, or the form without a basis.
    """
    if basis is not None and store != "basis":
        raise InvalidValue(
            f" is given, and --store is {store or 'not'}; accepted: --store basis", argument="basis"
        )
    if store == "basis":
        path = str(basis) if basis is not None else output.basis
        if not path:
            raise InvalidValue(
                " is basis, and there is none; accepted: with --basis FILE, or tokens.basis in "
                "--params",
                argument="store",
            )
        return replace(output, dtype="float32", basis=path)
    return output if store is None else replace(output, dtype=store, basis="")


def with_pipeline(
    settings: EncoderSettings,
    sources: list[Source],
    out: Path | StorageFolder,
    options: EmbedOptions,
) -> dict:
    """Open the engine, and embed in this process."""
    with Heartbeat(PrintedLog()) as log:
        pipeline = opened_pipeline(settings, options.batch, log)
    try:
        return with_progress(pipeline=pipeline, sources=sources, out=out, options=options)
    finally:
        pipeline.close()


def with_progress(
    pipeline: Pipeline, sources: list[Source], out: Path | StorageFolder, options: EmbedOptions
) -> dict:
    """Run :func:`embed` with a progress bar of rate and remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=10) as progress:
        bar = progress.add_task("frames", total=sum(source.total() for source in sources))
        return embed(
            pipeline, sources, out, options, lambda results: progress.advance(bar, results)
        )
