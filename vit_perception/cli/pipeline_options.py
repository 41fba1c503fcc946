"""Options of `embed` and `inspect` that choose recordings, settings, model and engine; and those
for a checkpoint that does not say how its images are prepared.
"""

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vit_perception.cli.paths import add_checkpoint_option, user_path
from vit_perception.config.backends import BACKEND_NAMES, PRECISIONS
from vit_perception.config.by_hand import ByHand
from vit_perception.config.column_settings import column_settings
from vit_perception.config.offline_settings import read_parameters
from vit_perception.config.parameter_files import DEFAULT_NODE
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    ModelSettings,
    PolicySettings,
)
from vit_perception.datasets.embed_sources import BagSource, PicturesSource, Source
from vit_perception.datasets.lerobot.dataset import LeRobotSource, is_lerobot
from vit_perception.datasets.output_messages import check_node_name
from vit_perception.datasets.recorded_columns import RecordedColumn, recorded_columns
from vit_perception.datasets.stored.given_sources import given_sources
from vit_perception.datasets.stored.stored_bag import BagCache, StoredBag, StoredBagSource
from vit_perception.datasets.without_parameters import settings_without_parameters
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.recordings.kind import check_no_loose_bag, check_recording, is_bag

SOURCES = (
    "rosbag2 folders (with metadata.yaml) or files, folders of them, one folder of pictures, or "
    "one LeRobot data set (with meta/info.json)"
)


def add_pipeline_arguments(parser: ArgumentParser) -> None:
    """Add the options that settings, model and engine are made of, as a group."""
    group = parser.add_argument_group("settings, model and engine")
    group.add_argument(
        "--params",
        type=user_path,
        metavar="FILE",
        help="the node's parameter file (default: every image and pose topic)",
    )
    group.add_argument(
        "--node",
        default="",
        help="full name of the node whose parameters are read from --params; topics of an mcap "
        "are below it (default: the node that the file is for, else /vit_encoder)",
    )
    add_checkpoint_option(group, default=None, meaning="as in --params, else demo")
    add_by_hand_arguments(group)
    group.add_argument(
        "--backend",
        choices=("auto", *BACKEND_NAMES),
        help="runtime (default: as in --params, else auto: the first that opens)",
    )
    group.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        help="of the engine's numbers (default: as in --params, else auto)",
    )


def add_by_hand_arguments(group: _ArgumentGroup) -> None:
    """Add the options for a checkpoint that does not say how its images are prepared."""
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            default=[],
            metavar=("R", "G", "B"),
            help=f"{what} of pixels from 0 to 1, for a checkpoint that does not say how its images "
            f"are prepared (model.{name})",
        )
    group.add_argument(
        "--model-size",
        type=int,
        nargs=2,
        default=[],
        metavar=("H", "W"),
        help="size in px that such a checkpoint was trained with (model.size)",
    )


def by_hand_of(args: Namespace) -> ByHand:
    """Return what the options of :func:`add_by_hand_arguments` give.

    Raises:
        BadSetting: A number is out of its bounds.
    """
    return ModelSettings(**_given_by_hand(args)).by_hand


def _given_by_hand(args: Namespace) -> dict[str, Any]:
    given = {"mean": args.mean, "std": args.std, "size": args.model_size}
    return {name: tuple(value) for name, value in given.items() if value}


def what_is_given(args: Namespace) -> tuple[EncoderSettings | None, str]:
    """Return the settings of ``--params``, None without it, and the node's full name."""
    if args.node:
        check_node_name(args.node)
    return (
        read_parameters(args.params, args.node)
        if args.params
        else (None, args.node or DEFAULT_NODE)
    )


class ToRead(NamedTuple):
    """What the options choose."""

    settings: EncoderSettings
    sources: list[Source]
    # The node's full name.
    node: str
    # Those that the bags are read with.
    columns: tuple[RecordedColumn, ...] = ()


def what_to_read(args: Namespace, columns: tuple[str, ...]) -> ToRead:
    """Return settings, sources by what the paths are, the node's name, and the columns.

    ``columns`` come after those of the parameter file.

    Raises:
        InvalidValue: A path cannot be read, or a column is not in the bags; the message names it.
    """
    return given_to_read(args, given_sources(args.sources), columns)


def given_to_read(
    args: Namespace, given_here: Sequence[Path | StoredBag], columns: tuple[str, ...]
) -> ToRead:
    """As :func:`what_to_read`, for the sources ``given_here``."""
    first = given_here[0]
    for path in given_here:
        if isinstance(path, Path) and not path.exists():
            raise InvalidValue(f"there is no {path}; accepted: {SOURCES}")
    given, node = what_is_given(args)
    if isinstance(first, StoredBag) or is_bag(first):
        for path in given_here:
            if isinstance(path, Path):
                check_recording(path)
        return _bags_to_read(args, given_here, given, node, columns)
    if columns or (given and given.columns):
        raise InvalidValue(
            f" is given, and {first} is no bag; accepted: bags, whose topics become columns",
            argument="column",
        )
    check_no_loose_bag(first)
    if len(given_here) > 1:
        raise InvalidValue(
            f"{first} is no bag; accepted: several bags, or one folder of pictures or LeRobot data "
            "set"
        )
    if is_lerobot(first):
        source = LeRobotSource(first)
        cameras = tuple(
            CameraSettings(c.name, c.key, "raw" if c.is_video else "compressed")
            for c in source.cameras
        )
        return ToRead(with_overrides(images_only(given, cameras), args), [source], node)
    if not first.is_dir():
        raise InvalidValue(f"{first} is nothing that can be read; accepted: {SOURCES}")
    if not any(first.iterdir()):
        raise InvalidValue(f"{first} is an empty folder; accepted: {SOURCES}")
    camera = given.cameras[0].name if given else "camera"
    settings = images_only(given, (CameraSettings(camera, "pictures", "compressed"),))
    source = PicturesSource(first, camera, args.period_s)
    return ToRead(with_overrides(settings, args), [source], node)


def _bags_to_read(
    args: Namespace,
    bags: Sequence[Path | StoredBag],
    given: EncoderSettings | None,
    node: str,
    columns: tuple[str, ...],
) -> ToRead:
    """As :func:`what_to_read`, for ``bags``. One on object storage is copied if it is the first."""
    cache = BagCache()
    try:
        wanted = given.columns if given else ()
        # The first one says which cameras and columns there are; others are read at their turn.
        first = bags[0]
        if isinstance(first, StoredBag) and (given is None or wanted or columns):
            first = cache.fetch(first, {})
        local = [bag for bag in (first, *bags[1:]) if isinstance(bag, Path)]
        settings = given or settings_without_parameters(local[0])
        settings = with_overrides(settings, args)
        settings = replace(settings, columns=(*settings.columns, *columns))
        found = recorded_columns(local, column_settings(settings.columns))
    except BaseException:
        cache.close()
        raise
    image_topic = settings.cameras[0].topic
    sources: list[Source] = [
        StoredBagSource(bag, image_topic, found, cache)
        if isinstance(bag, StoredBag)
        else BagSource(bag, image_topic, found)
        for bag in bags
    ]
    return ToRead(settings, sources, node, found)


def images_only(
    given: EncoderSettings | None, cameras: tuple[CameraSettings, ...]
) -> EncoderSettings:
    """Return settings for sources that have neither poses nor states.

    A policy's state is made of these. A given camera keeps everything but the source of its images.
    """
    if given is None:
        return EncoderSettings(cameras)
    named = {c.name: c for c in given.cameras}
    for camera in cameras:
        if named.get(camera.name, camera).rectify:
            raise BadSetting(
                f"cameras.{camera.name}.rectify",
                True,
                "false for pictures and LeRobot data sets, which have no CameraInfo",
            )
    for rays in given.group("rays"):
        raise BadSetting(
            f"{rays.prefix}camera",
            rays.camera,
            "no rays for pictures and LeRobot data sets, which have no CameraInfo",
        )
    return replace(
        given,
        poses=(),
        states=(),
        policy=PolicySettings(),
        cameras=tuple(
            replace(named.get(c.name, c), topic=c.topic, transport=c.transport) for c in cameras
        ),
    )


def with_overrides(settings: EncoderSettings, args: Namespace) -> EncoderSettings:
    """Return ``settings`` with the options of the command line, which win over the file."""
    engine = {key: getattr(args, key) for key in ("backend", "precision") if getattr(args, key)}
    if engine:  # the robot's engine file is for its own
        engine["file"] = ""
    model: dict[str, Any] = {}
    if args.checkpoint:  # that one alone: what the file gives of another one is not of this
        model = {"checkpoint": args.checkpoint, "more_checkpoints": ()}
        model |= {"mean": (), "std": (), "size": ()}
    model |= _given_by_hand(args)
    return replace(
        settings, engine=replace(settings.engine, **engine), model=replace(settings.model, **model)
    )


def drop_lines(counts: dict[str, int], texts: dict[str, str]) -> list[str]:
    """Return one line per reason for dropped frames, with the text of the first one."""
    return [
        printable(
            f"dropped: {count} {reason}"
            + (f", the first: {texts[reason]}" if reason in texts else "")
        )
        for reason, count in counts.items()
    ]


def skip_lines(rows: list[dict]) -> list[str]:
    """Return one line per topic and reason for other omitted messages."""
    return [
        printable(
            f"left out: {row['count']} {row['reason']} of {row['topic']}, the first: {row['first']}"
        )
        for row in rows
    ]
