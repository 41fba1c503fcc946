"""Replay a recorded Panda arm through the node, live over DDS, and show what it sees.

Fits a head for the task's stages on one recording, starts the lifecycle node as its own process,
plays the other recording to it at recorded speed from a third process, and watches the topics as a
policy node would. Writes report.html, a page to open in a browser; summary.json,
contact_sheet.png and an MCAP bag of the outputs.
"""

import json
import re
import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import yaml
from rich.console import Console

from vit_perception.cli import fit
from vit_perception.cli.live_demo.page import write_page
from vit_perception.cli.live_demo.report import failures, summarise, write_sheet
from vit_perception.cli.live_demo.watch import PARAMETERS, watch
from vit_perception.cli.paths import user_path
from vit_perception.cli.processes import share_folder
from vit_perception.config.by_hand import ByHand
from vit_perception.config.parameter_files import ParameterFile
from vit_perception.files.atomic import is_half_made, write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.image.preprocess import Preprocessor
from vit_perception.recordings.reader import BagReader
from vit_perception.training.features import FeatureSource
from vit_perception.training.pictures import read_bag

EXAMPLES = """
vit-perception demo
vit-perception demo --rate 0.5 --out slow_demo
"""
CAMERAS = ("agentview", "wrist")
WRITTEN = (
    "heads",
    "outputs",
    PARAMETERS,
    "sent.jsonl",
    "node.log",
    "player.log",
    "summary.json",
    "contact_sheet.png",
    "report.html",
)


def add_arguments(parser: ArgumentParser) -> None:
    data = share_folder() / "data/demo"
    for option, default, what in (
        ("--train-bag", data / "pick_place_train", "recording to fit on"),
        ("--bag", data / "pick_place_demo", "recording to replay"),
        ("--params", share_folder() / "config/demo.yaml", "parameters of the node"),
    ):
        parser.add_argument(
            option,
            type=user_path,
            default=default,
            metavar="PATH",
            help=f"{what} (default: %(default)s)",
        )
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("demo_output"),
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, help="times the recorded speed (default: %(default)s)"
    )


def run(args: Namespace) -> int:
    # The heads are fitted without ROS: where it is missing, that is said before minutes of work.
    import rclpy  # noqa: F401

    console = Console()
    check(args)
    parameters = parameters_of(args.params)
    make_room(args.out)
    console.rule("1  fit a head for the task's stages on one recording")
    preprocess = fit_heads(args, parameters)
    text = yaml.safe_dump({"/**": {"ros__parameters": parameters}})
    write_whole(args.out / PARAMETERS, lambda file: file.write_text(text))
    console.rule("2  replay the other recording through the node")
    demo = watch(bag_path=args.bag, out=args.out, rate=args.rate, console=console)
    console.rule("3  what came out")
    summary = summarise(demo)
    write_whole(
        args.out / "summary.json",
        lambda file: file.write_text(json.dumps(summary, indent=1) + "\n"),
    )
    write_sheet(demo, preprocess, args.out / "contact_sheet.png")
    print(json.dumps(summary, indent=1))
    print(
        "written: "
        f"{', '.join(str(args.out / f) for f in ('summary.json', 'contact_sheet.png', 'outputs'))}"
    )
    for failure in (failed := failures(summary)):
        print(f"FAILED: {failure}")
    steps = next_steps(args.out)
    page = args.out / "report.html"
    write_page(
        demo=demo,
        summary=summary,
        failed=failed,
        sheet=args.out / "contact_sheet.png",
        steps=steps.partition("\n")[2],
        path=page,
    )
    if not failed:
        print(f"\n{steps}")
    print(f"\nThe page with all of it: {page.resolve()}")
    return 1 if failed else 0


def next_steps(out: Path) -> str:
    """Return what to do after the demo, as commands of the program that runs it."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "vit-perception" else "vit-perception"
    node = str(Path(program).with_name("encoder_node")) if "/" in program else "encoder_node"
    return f"""What to do next:
  the page                         open {out / "report.html"} in a browser
  what a bag of yours would show   {program} inspect BAG --out look
  its features as files            {program} embed BAG --out features      (docs/bags.md)
  the node on your own cameras     copy config/one_camera_one_arm.yaml, set its topics, then
                                   {node} --ros-args --params-file YOURS.yaml -p autostart:=true
  is it working?                   {program} status
  the same live, in a browser      {program} watch --web      (docs/viewers.md)
  a policy on its tokens           docs/policy_node.md"""


def check(args: Namespace) -> None:
    """Check at once what would fail in a minute.

    Raises:
        InvalidValue: An option is not accepted.
        BagError: A recording cannot be read.
    """
    if not args.rate > 0:
        raise InvalidValue(f"--rate is {args.rate}; accepted: more than 0")
    for option, path in (("--bag", args.bag), ("--train-bag", args.train_bag)):
        if not path.exists():
            raise InvalidValue(
                f"{option}: no bag at {path}; the demo's recordings are in data/demo of the "
                "repository"
            )
        with BagReader(path) as bag:
            bag.count("/task_stage")


def parameters_of(file: Path) -> dict:
    """Read the parameters that ``file`` gives to the node.

    Raises:
        InvalidValue: The demo cannot work with them.
    """
    content = ParameterFile(file)
    # An empty list is the default of every list, and there is no way to write one that all versions
    # of ROS read.
    given = {
        name: value
        for name, value in content.values_for(content.node()).items()
        if value is not None
    }
    given.setdefault("model.checkpoint", "demo")
    for name in (*(f"cameras.{camera}.topic" for camera in CAMERAS), "model.checkpoint"):
        if not isinstance(given.get(name), str):
            raise InvalidValue(
                f"--params: {file} gives no text for {name}; accepted: one with the cameras "
                f"{', '.join(CAMERAS)}, as config/demo.yaml"
            )
    return given


def make_room(out: Path) -> None:
    """Remove what an earlier demo wrote to ``out``, and nothing else.

    Raises:
        InvalidValue: There are other files.
    """
    out.mkdir(parents=True, exist_ok=True)
    half_made = "|".join(map(re.escape, WRITTEN))
    others = sorted(
        p.name for p in out.iterdir() if p.name not in WRITTEN and not is_half_made(p, half_made)
    )
    if others:
        raise InvalidValue(
            f"--out: {out} holds other files ({', '.join(others[:3])}); accepted: a new or an "
            "empty folder, or one that the demo wrote"
        )
    for path in out.iterdir():
        # Of a link only the link goes.
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def fit_heads(args: Namespace, parameters: dict) -> Preprocessor:
    """Fit one head per camera and set it in ``parameters``; return the model's preprocessing."""
    for camera in CAMERAS:
        topic = parameters[f"cameras.{camera}.topic"]
        out = args.out / "heads" / camera
        print(f"{camera}:")
        train = read_bag(args.train_bag, topic, "/task_stage", every=2)
        with FeatureSource(
            parameters["model.checkpoint"],
            family=parameters.get("model.family", "auto"),
            by_hand=ByHand(
                *(tuple(parameters.get(f"model.{name}") or ()) for name in ("mean", "std", "size"))
            ),
        ) as source:
            fit.probe(
                source=source, train=train, tests={}, method="logistic", feature="cls_mean", out=out
            )
        parameters[f"cameras.{camera}.head"] = str(out.resolve())
    return Preprocessor(source.card.rule)
