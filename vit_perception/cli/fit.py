"""Make a classifier from labelled images (a folder with one subfolder per class) or a labelled bag.

--method logistic and nearest_mean do not change the encoder. They fit a linear head on its
features, for the node's parameter cameras.<name>.head. --method finetune trains the complete model;
use the folder as model.checkpoint. Accuracy and confusion are measured on images held out (about a
quarter of each class; complete stretches of a bag if there are several), and on a second bag or
folder. The saved head was fitted on all images of the first source.
"""

from argparse import ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from vit_perception.cli import fit_finetune
from vit_perception.cli.fit_options import camera as fit_camera
from vit_perception.cli.paths import add_checkpoint_option, add_family_option, user_path
from vit_perception.cli.pipeline_options import add_by_hand_arguments, by_hand_of
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.files.log import PrintedLog
from vit_perception.heads.classification import FEATURES
from vit_perception.heads.fit import METHODS
from vit_perception.training.features import FeatureSource
from vit_perception.training.pictures import LabelledSource, read_bag, read_folder, thin_classes
from vit_perception.training.probe import fit_probe, require_head_folder, save_probe
from vit_perception.training.recipe import Recipe, check_value, declared_of
from vit_perception.viewing.fit_report import picture_progress, print_evaluations, print_unreadable

EXAMPLES = """
vit-perception fit --bag data/demo/pick_place_train --topic /wrist/image/compressed --out head
vit-perception fit --images pictures --test-images more_pictures --out heads/mine
vit-perception fit --images pictures --method finetune --epochs 5 --out models/mine
"""
PROBE_ONLY = ("backend", "network_size", "no_cache")
FINETUNE_ONLY = (
    "variant",
    "image_size",
    "device",
    "threads",
    "resume",
    *(f.name for f in fields(Recipe) if f.name != "held_out"),
)


def add_arguments(parser: ArgumentParser) -> None:
    learn = parser.add_argument_group("what is learned from")
    source = learn.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images",
        type=user_path,
        metavar="FOLDER",
        help="one subfolder per class, with JPEG, PNG, BMP or WebP files",
    )
    source.add_argument(
        "--bag", type=user_path, help="rosbag2 folder with an image topic and a label topic"
    )
    learn.add_argument("--topic", help="image topic of the bag")
    learn.add_argument(
        "--labels",
        default="/task_stage",
        metavar="TOPIC",
        help="std_msgs/String topic of the bag (default: %(default)s)",
    )
    learn.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="take every n-th image of the bag (default: %(default)s)",
    )
    fit_camera.add_arguments(learn)
    test = parser.add_argument_group("what is tested on")
    _add_recipe_option(test, Recipe.__dataclass_fields__["held_out"], Recipe.held_out)
    test.add_argument("--test-bag", type=user_path, metavar="BAG", help="a bag for testing only")
    test.add_argument(
        "--test-images", type=user_path, metavar="FOLDER", help="a folder for testing only"
    )
    result = parser.add_argument_group("method and result")
    result.add_argument(
        "--method",
        choices=(*METHODS, "finetune"),
        default="logistic",
        help="logistic and nearest_mean fit a head; finetune trains the complete model "
        "(default: %(default)s)",
    )
    result.add_argument(
        "--out",
        type=user_path,
        required=True,
        metavar="FOLDER",
        help="to write: a head, or with finetune a checkpoint",
    )
    model = parser.add_argument_group("model")
    # None where it is not given: --variant takes neither.
    add_checkpoint_option(model, default=None)
    add_family_option(model, default=None)
    add_by_hand_arguments(model)
    model.add_argument(
        "--feature",
        choices=FEATURES,
        help="which tokens the classifier sees (default: cls_mean; finetune: as the checkpoint's "
        "own classifier, else cls_mean)",
    )
    probe = parser.add_argument_group("only with --method logistic or nearest_mean")
    probe.add_argument("--backend", help="runtime, as engine.backend (default: auto)")
    probe.add_argument(
        "--network-size",
        metavar="HxW",
        help="size in px to which images are resized (default: the checkpoint's)",
    )
    probe.add_argument(
        "--no-cache",
        action="store_true",
        help="neither read nor write the features that earlier runs have cached",
    )
    _add_finetune_arguments(parser)


def _add_finetune_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("only with --method finetune: start and machine")
    group.add_argument(
        "--variant",
        metavar="SIZE",
        help="start from random weights of this size, for example S/16, instead of a checkpoint",
    )
    group.add_argument(
        "--image-size", type=int, metavar="PX", help="with --variant: side of its input in px"
    )
    group.add_argument("--resume", action="store_true", help="continue the run in --out")
    group.add_argument("--device", help="cpu, cuda or cuda:<n> (default: cuda if there is one)")
    group.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: all; one for a tiny model)"
    )
    group = parser.add_argument_group("only with --method finetune: training")
    for each in fields(Recipe):
        if each.name != "held_out":
            _add_recipe_option(group, each)


def _add_recipe_option(group: _ActionsContainer, each: Field, default: Any = None) -> None:
    """Add the option of a recipe's field; with ``default`` None it is only set if it is given."""
    declared = declared_of(each)
    option = f"--{each.name.replace('_', '-')}"
    if each.type is bool:
        group.add_argument(option, action="store_true", help=declared.description)
        return
    random = declared.from_random
    with_variant = "" if random is None else f", with --variant {random:g}"
    group.add_argument(
        option,
        type=each.type,
        choices=declared.choices or None,
        metavar=None if declared.choices else "N" if each.type is int else "X",
        default=default,
        help=f"{declared.description} (default: {each.default}{with_variant})",
    )


def run(args: Namespace) -> int:
    check(args)
    if args.method == "finetune":
        return fit_finetune.run(args, *sources_of(args))
    train, tests = sources_of(args)
    fit_finetune.labels_of(train, tests)
    require_head_folder(args.out)
    with FeatureSource(
        checkpoint=args.checkpoint or "demo",
        backend=args.backend or "auto",
        log=PrintedLog(),
        cached=not args.no_cache,
        family=args.family or "auto",
        network_size=args.network_size or "",
        by_hand=by_hand_of(args),
    ) as source:
        probe(
            source=source,
            train=train,
            tests=tests,
            method=args.method,
            feature=args.feature or "cls_mean",
            out=args.out,
            held_out=args.held_out,
        )
    return 0


def check(args: Namespace) -> None:
    """Refuse options that would be ignored, and what would fail later.

    Raises:
        InvalidValue: An option is not accepted.
    """
    if args.bag and not args.topic:
        raise InvalidValue("--bag needs --topic, the image topic in it")
    if args.test_bag and not args.topic:
        raise InvalidValue("--test-bag needs --topic, the image topic in it")
    fit_camera.check(args)
    if args.every < 1:
        raise InvalidValue(f"--every is {args.every}; accepted: 1 or more")
    check_value("held_out", args.held_out)
    foreign = [
        f"--{name.replace('_', '-')}"
        for name in (PROBE_ONLY if args.method == "finetune" else FINETUNE_ONLY)
        if (given := getattr(args, name)) is not None and given is not False
    ]
    if foreign:
        raise InvalidValue(
            f"{', '.join(foreign)} has no meaning with --method {args.method}; accepted: without it"
        )
    for other in ("checkpoint", "family", "mean", "std", "model_size"):
        if args.variant and getattr(args, other):
            raise InvalidValue(
                f"--variant and --{other.replace('_', '-')} are both given; accepted: one of them"
            )
    if args.image_size is not None and not args.variant:
        raise InvalidValue("--image-size is given without --variant; a checkpoint has its own size")


def sources_of(args: Namespace) -> tuple[LabelledSource, dict[str, LabelledSource]]:
    """Return what is trained on, and by name what is only tested on.

    Everything that is left out of them is printed.
    """
    train = (
        read_bag(
            path=args.bag,
            topic=args.topic,
            label_topic=args.labels,
            every=args.every,
            camera=fit_camera.camera_of(args),
        )
        if args.bag
        else read_folder(args.images)
    )
    tests = {}
    if args.test_bag:
        tests["test_bag"] = read_bag(
            path=args.test_bag,
            topic=args.topic,
            label_topic=args.labels,
            every=args.every,
            camera=fit_camera.camera_of(args),
        )
    if args.test_images:
        tests["test_images"] = read_folder(args.test_images)
    for source in (train, *tests.values()):
        for line in source.left_out:
            print(printable(f"{source.name}: {line}", keep=""))
    for line in thin_classes([p.label for p in train.pictures]):
        print(printable(f"{train.name}: {line}", keep=""))
    return train, tests


def probe(
    source: FeatureSource,
    train: LabelledSource,
    tests: dict[str, LabelledSource],
    method: str,
    feature: str,
    out: Path,
    held_out: float = Recipe.held_out,
) -> dict:
    """Fit, evaluate and save a head, print the result, and return the report."""
    with picture_progress() as progress:

        def bar(what: str, total: int) -> Callable[[], None]:
            task = progress.add_task(what, total=total)
            return lambda: progress.advance(task)

        made = fit_probe(
            source=source,
            train=train,
            tests=tests,
            method=method,
            feature=feature,
            share=held_out,
            progress=bar,
        )
    report = save_probe(probe=made, folder=out, method=method, model=source.card.name)
    for name, features in made.features.items():
        print(
            f"{name}: {len(features.labels)} pictures, {features.from_cache} of them from the "
            "cache of features"
        )
    print_unreadable(report["unreadable"])
    print_evaluations(made.evaluations)
    print(f"head of {len(made.head.labels)} classes saved in {out}")
    return report
