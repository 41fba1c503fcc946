"""Build and verify an engine before the first start, so that the node finds it in the cache.

With --target, or for tensorrt_rtx on a machine without a GPU, engines are built for GPUs that are
not here. The first configure on such a GPU checks that features agree with the model. With --out
the engine is also one file. Copy it to a robot and set the parameter engine.file to its path.
"""

import contextlib
from argparse import ArgumentParser, Namespace

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.paths import add_checkpoint_option, add_family_option, user_path
from vit_perception.cli.pipeline_options import add_by_hand_arguments, by_hand_of
from vit_perception.config.backends import BACKEND_NAMES, ENGINE_FILE_BACKENDS
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.building.build import TO_BE_PROVEN, build_ahead
from vit_perception.engines.building.memory import NotEnoughMemory
from vit_perception.engines.cache.engine_file import check_out, is_carried, write_engine_file
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.files.errors import InvalidValue
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import Log

EXAMPLES = """
vit-perception build
vit-perception build --backend openvino --precision fp32 --batch 2
vit-perception build --backend tensorrt_rtx --precision fp16 --target 8.9 --out encoder.engine
"""
SHORT = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def add_arguments(parser: ArgumentParser) -> None:
    model = parser.add_argument_group("model, as in the node's parameters")
    add_checkpoint_option(model)
    add_family_option(model)
    add_by_hand_arguments(model)
    model.add_argument(
        "--block",
        type=int,
        default=-1,
        help="transformer block whose tokens are output; -1 is the last (default: %(default)s)",
    )
    model.add_argument(
        "--dense", action="store_true", help="with depth or segmentation, as dense.enabled: true"
    )
    model.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size in px to which images are resized (default: the checkpoint's)",
    )
    model.add_argument(
        "--batch", type=int, default=1, help="number of cameras (default: %(default)s)"
    )
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--backend",
        choices=("auto", *BACKEND_NAMES),
        default="auto",
        help="runtime; auto is the first that opens (default: %(default)s)",
    )
    engine.add_argument(
        "--precision", default="auto", help="auto, fp32, fp16, bf16 or int8 (default: %(default)s)"
    )
    engine.add_argument(
        "--calibration",
        default="",
        metavar="PATH",
        help="for int8: a rosbag2 folder or a folder of pictures of what the robot sees",
    )
    engine.add_argument(
        "--device",
        type=int,
        default=0,
        help="index of the GPU; `vit-perception doctor` lists them (default: %(default)s)",
    )
    engine.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="CC",
        help="compute capabilities of GPUs that are not here, for example 8.9 12.0",
    )
    engine.add_argument(
        "--no-memory-check",
        action="store_true",
        help="build even if less memory is free than the build takes",
    )
    result = parser.add_argument_group("result")
    result.add_argument(
        "--out",
        type=user_path,
        metavar="FILE",
        help="also write the engine as one file, for the parameter engine.file of a robot's node "
        "(tensorrt, tensorrt_rtx with one --target)",
    )
    result.add_argument("--force", action="store_true", help="replace the file of --out")


def run(args: Namespace) -> int:
    precision = SHORT.get(args.precision, args.precision)
    settings = EngineSettings(
        args.backend,
        precision,
        calibration=args.calibration,
        check_memory=not args.no_memory_check,
        device=args.device,
    )
    by_hand = by_hand_of(args)
    targets = tuple(args.target) or targets_without_a_gpu(args.backend, precision)
    if args.out is not None:
        check_out(args.out, args.force)
        if args.backend not in ("auto", *ENGINE_FILE_BACKENDS):
            raise InvalidValue(
                f"--out with --backend {args.backend}, which has no engine as a file; accepted: "
                f"{' or '.join(ENGINE_FILE_BACKENDS)}"
            )
        if len(targets) > 1:
            raise InvalidValue(
                f"--out is one engine, and there are {len(targets)} targets "
                f"({', '.join(targets)}); accepted: one --target"
            )
    with BuildBars() as bars, bars.alive() as log:
        log.info(f"loading {args.checkpoint}")
        loaded = load_checkpoint(args.checkpoint, args.family, by_hand)
        if args.dense and loaded.dense is None:
            raise CheckpointError(
                f"--dense with {args.checkpoint}, which has no dense head; accepted: a DPT or "
                "Depth Anything checkpoint"
            )
        try:
            results = build_ahead(
                settings,
                loaded,
                args.batch,
                block=args.block,
                size_px=tuple(args.size) if args.size else None,
                targets=targets,
                dense=args.dense,
                log=log,
            )
        except NotEnoughMemory as error:
            error.hint = "--no-memory-check builds nevertheless"
            raise
    for result in results:
        kept = f" in {result.path}" if result.path else ""
        done = {
            True: "found in the cache",
            False: "built",
            None: "opened, which needs nothing built",
        }[result.cached]
        print(f"{result.what}: {done}{kept}; parity {result.parity}")
    if args.out is not None:
        if not is_carried(results[0].path):
            raise InvalidValue(
                f"--out with {results[0].what}, which has no engine as a file; accepted: --backend "
                f"{' or '.join(ENGINE_FILE_BACKENDS)}"
            )
        write_engine_file(args.out, results[0].path)
        print(
            f"Written: {args.out}. Copy it to the robot and set engine.file there to its path: "
            "each configure proves it."
        )
    elif any(result.parity == TO_BE_PROVEN for result in results):
        print(
            "Copy the engine cache to the machine with the GPU: the node's first configure proves "
            "each engine there."
        )
    return 0


class BuildBars(Progress):
    """The log of a build: a pulsing bar for the current step, and a bar for each engine."""

    def __init__(self):
        super().__init__(
            TaskProgressColumn(),
            BarColumn(12),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._step = self.add_task("", total=None)
        self._engines: dict[str, TaskID] = {}

    def __exit__(self, *raised) -> None:
        self.update(self._step, visible=False)
        super().__exit__(*raised)

    def alive(self) -> contextlib.AbstractContextManager[Log]:
        """Itself on a terminal, where the bar moves; elsewhere a log that is never long silent."""
        return contextlib.nullcontext(self) if self.console.is_terminal else Heartbeat(self)

    def step(self, text: str) -> None:
        """Show what is being done now."""
        self.update(self._step, description=text if len(text) < 70 else text[:67] + "...")

    def info(self, text: str) -> None:
        """Print a line that stays."""
        self.step(text)
        self.console.print(text, soft_wrap=True, highlight=False)

    def warning(self, text: str) -> None:
        """Print a line that stays, with its level."""
        self.info(f"WARNING: {text}")

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        """Move the bar of ``what``. Without a terminal, which shows no bar, print the sentence."""
        if text and not self.console.is_terminal:
            self.info(text)
        if what not in self._engines:
            self._engines[what] = self.add_task(what.removeprefix("building the "), total=1.0)
        self.update(self._engines[what], completed=fraction)


def targets_without_a_gpu(backend: str, precision: str) -> tuple[str, ...]:
    """Return every GPU that TensorRT-RTX builds for and that has the precision, if no GPU is here.

    With a GPU that cannot be used the result is empty: opening it says what is wrong.
    """
    if backend != "tensorrt_rtx" or not (why_not := tensorrt_api.driver_fault()):
        return ()
    print(f"{why_not}; building for the GPUs that TensorRT-RTX knows")
    known = tensorrt_api.targets_of(tensorrt_api.load_api("tensorrt_rtx"))
    return tuple(t for t in known if precision in ("auto", *tensorrt_api.precisions_of(t)))
