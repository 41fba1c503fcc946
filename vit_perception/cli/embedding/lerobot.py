"""Options of `embed --format lerobot`."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vit_perception.config.settings import EncoderSettings
from vit_perception.datasets.embed_sources import Source
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.lerobot.layout import ACTION
from vit_perception.datasets.lerobot.writer.options import (
    NEXT,
    NEXT_STATE,
    NO_ACTION,
    NOW,
    PICTURES,
    LeRobotOptions,
)
from vit_perception.datasets.recorded_columns import RecordedColumn
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.local import LocalFolder
from vit_perception.files.storage.urls import folder_of
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.source import sampled

LEROBOT = "lerobot"
# What such a data set can hold beside the embedding.
_FEATURES = ("tokens", "embedding")
# How errors begin that are about a column: by its name, or that there are columns at all.
_OF_ACTION = re.compile(r" action(_\d+)?(?=: )")
_OF_ALL = " is given, "


def add_lerobot_arguments(parser: ArgumentParser) -> None:
    """Add the options as a group."""
    group = parser.add_argument_group(f"a LeRobot data set (--format {LEROBOT})")
    group.add_argument(
        "--action",
        action="append",
        default=[],
        metavar="TOPIC[:FIELD][@hold|@linear[:SECONDS]]",
        help="what the robot was told, as in --column; several are put side by side. "
        f"{NEXT_STATE}: poses and joints of the next frame; {NO_ACTION}: a data set without "
        "actions (default: the column action, if the source has one)",
    )
    group.add_argument(
        "--action-at",
        choices=(NEXT, NOW),
        help=f"which command belongs to a frame. {NEXT}: the last one up to the next frame; {NOW}: "
        f"the last one up to the frame itself (default: {NEXT} for topics, {NOW} for columns of "
        "a LeRobot data set)",
    )
    group.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="TEXT",
        help="what was to be done: once for all sources, or once for each (default: unnamed)",
    )
    group.add_argument(
        "--images",
        choices=PICTURES,
        default="none",
        help="also write what the cameras saw (default: %(default)s)",
    )


def lerobot_of(args: Namespace) -> LeRobotOptions | None:
    """Return what the options ask for; None with another format.

    Raises:
        InvalidValue: An option is not accepted, or does not belong to the format.
    """
    if args.format != LEROBOT:
        defaults = {"action": [], "action_at": None, "task": [], "images": "none"}
        for name, default in defaults.items():
            if getattr(args, name) != default:
                raise InvalidValue(
                    f" is given, and --format is {args.format}; accepted: with --format {LEROBOT}",
                    argument=name,
                )
        return None
    for name in ("ray", "dry_run"):
        if getattr(args, name):
            raise InvalidValue(
                f" is given with --format {LEROBOT}; accepted: without, or with another format",
                argument=name,
            )
    if not isinstance(folder_of(args.out), LocalFolder):
        raise InvalidValue(
            f" is {args.out}; accepted with --format {LEROBOT}: a folder on local disk",
            argument="out",
        )
    if other := sorted(set(args.features) - set(_FEATURES)):
        raise InvalidValue(
            f" has {', '.join(other)}; accepted: {', '.join(_FEATURES)} with --format {LEROBOT}",
            argument="features",
        )
    others = [name for name in (c.partition("=")[0] for c in args.columns) if name != ACTION]
    if others:
        raise InvalidValue(
            f" has {', '.join(others)}; accepted: with --format {LEROBOT}, which has no other "
            "columns, the option action",
            argument="column",
        )
    return LeRobotOptions(
        actions=tuple(args.action),
        action_at=args.action_at or "",
        tasks=tuple(args.task) or LeRobotOptions.tasks,
        pictures=args.images,
        tokens="tokens" in args.features,
    )


def check_before(
    lerobot: LeRobotOptions,
    sources: Sequence[Source],
    columns: Sequence[RecordedColumn],
    settings: EncoderSettings,
) -> None:
    """Check what can be checked before anything is encoded.

    Raises:
        InvalidValue: There will be no action, or tasks are for another number of sources.
    """
    first = sources[0]
    names = [column.settings.name for column in columns]
    if isinstance(first, LeRobotSource):
        names += first.numbers
    lerobot.check(names, has_state=bool(sampled(sources_of(settings))))
    lerobot.task_of(0, len(sources))


@contextmanager
def action_is_named(args: Namespace) -> Iterator[None]:
    """Topics of ``--action`` are read as columns: their errors name the option that was given.

    Raises:
        InvalidValue: As in the block.
    """
    try:
        yield
    except InvalidValue as error:
        text = str(error.args[0])
        begin = _OF_ACTION.match(text)
        of_all = text.startswith(_OF_ALL) and args.action and not args.columns
        if error.argument != "column" or not (begin or of_all):
            raise
        text = text[begin.end() :] if begin else text
        raise InvalidValue(text, argument="action", hint=error.hint) from error
