"""The subcommand ``reference``; the package's docstring is its help."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.paths import user_path
from vit_perception.cli.pipeline_options import (
    add_pipeline_arguments,
    what_is_given,
    with_overrides,
)
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.datasets.reference.learn import Learnt, learn_reference, reads_of
from vit_perception.datasets.reference.turned import with_rotation_gain
from vit_perception.datasets.without_parameters import settings_without_parameters
from vit_perception.files.atomic import check_new_file
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog
from vit_perception.pipeline.monitor.load import check_fits
from vit_perception.pipeline.monitor.reference import Reference
from vit_perception.pipeline.monitor.reference_file import FILE_NAME, save_reference
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.kind import check_recording

EXAMPLES = """
vit-perception reference features --out reference
vit-perception reference features --recording my_bag --params robot.yaml --out reference
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
    parser.add_argument(
        "--recording",
        type=user_path,
        metavar="BAG",
        help="measure on turned pictures of it how much of a rotation the tokens show; else a "
        "rotation comes out too small",
    )
    parser.add_argument("--force", action="store_true", help="replace the reference that is there")
    add_pipeline_arguments(parser, monitor=False)


def run(args: Namespace) -> int:
    if args.out.exists() and not args.out.is_dir():
        raise InvalidValue(
            f": {args.out} is a file; accepted: a folder, new or not", argument="out"
        )
    if args.out.exists():
        check_new_file(args.out / FILE_NAME, args.force, argument="out")
    if args.recording:
        check_recording(args.recording)
    files = FeatureFiles(args.features)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("frames read", total=reads_of(files))
        learnt = learn_reference(files, lambda frames: progress.advance(bar, frames))
    if args.recording:
        learnt = replace(learnt, reference=_with_gain(learnt.reference, args))
    save_reference(args.out, learnt.reference)
    print(printable(_text(learnt)))
    if basis := files.layouts[-1].basis:
        print(_coefficients_text(basis.dims))
    print(printable(f"{args.out}: for the parameter monitor.reference"))
    return 0


def _with_gain(reference: Reference, args: Namespace) -> Reference:
    """Return ``reference`` with what turned pictures of the recording show."""
    settings = what_is_given(args)[0] or settings_without_parameters(args.recording)
    settings = with_overrides(settings, args)
    settings = replace(settings, monitor=MonitorSettings(), columns=())
    with Heartbeat(PrintedLog()) as log:
        pipeline = Pipeline.open(settings, log)
        try:
            check_fits(reference, settings, pipeline.parts.encoders, name="features")
            log.info("encoding turned pictures")
            cameras = with_rotation_gain(reference.cameras, pipeline, args.recording)
        finally:
            pipeline.close()
    return replace(reference, cameras=cameras)


def _coefficients_text(dims: int) -> str:
    """Return what a reference of stored coefficients is not good for (docs/monitor.md)."""
    return (
        f"learnt from coefficients of {dims} directions: the node judges tokens as they are before "
        "they are reduced. Smaller changes are missed, and with few directions it may warn of "
        "every image; features of `embed` in float32, float16 or int8 give a better reference"
    )


def _text(learnt: Learnt) -> str:
    """Return the table of what was learnt."""
    lines = ["camera  frames  held out  static patches  noise: x  y px  rotation"]
    for name, camera in learnt.reference.cameras.items():
        frames, held_out = learnt.frames[name]
        static = int(camera.static.sum())
        x_px, y_px, rotation_deg = camera.shift_noise
        shown = (
            f"{x_px:.1f}  {y_px:.1f} px  {rotation_deg:.1f} degrees, rotations times "
            f"{camera.rotation_gain:.2f}"
            if camera.has_background
            else "too few: no camera shift"
        )
        lines.append(f"{name}  {frames}  {held_out}  {static} of {len(camera.static)}  {shown}")
    return "\n".join(lines)
