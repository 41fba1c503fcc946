"""The options of `embed` for many recordings on many machines."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

from vit_perception.cli.pipeline_options import ToRead, given_to_read
from vit_perception.datasets.embed_sources import Source
from vit_perception.datasets.fleet.plan import UnreadableSource
from vit_perception.datasets.stored.given_sources import given_sources
from vit_perception.datasets.stored.stored_bag import StoredBag
from vit_perception.files.errors import InvalidValue, UserError
from vit_perception.files.storage.local import LocalFolder
from vit_perception.files.storage.urls import folder_of
from vit_perception.recordings.kind import check_recording, is_bag
from vit_perception.recordings.reader import BagReader


def add_fleet_arguments(parser: ArgumentParser) -> None:
    """Add the options as a group."""
    group = parser.add_argument_group("many recordings on many machines")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="share the sources among the workers of a Ray cluster: auto (the one that this "
        "machine is part of), HOST:PORT, or local (the cores of this machine); all machines must "
        "see sources and --out under the same paths",
    )
    group.add_argument(
        "--ray-cpus",
        type=int,
        default=1,
        metavar="N",
        help="CPU cores, and threads of the engine, of each worker (default: %(default)s)",
    )
    group.add_argument(
        "--ray-gpus",
        type=float,
        default=0.0,
        metavar="N",
        help="GPUs of each worker; 0.5 lets two share one (default: %(default)g)",
    )
    group.add_argument(
        "--ray-workers",
        type=int,
        default=0,
        metavar="N",
        help="at most so many workers (default: as many as the cluster has room for)",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="with --ray: end at the first source that cannot be read (default: the others are "
        "embedded, and the manifest names those that failed)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print sources, frames, bytes and time, from the bags' metadata and a trial of 20 "
        "frames; write nothing",
    )


def check_fleet_arguments(args: Namespace) -> None:
    """Check the options that are numbers.

    Raises:
        InvalidValue: One is out of its bounds; the message names it.
    """
    if args.ray_cpus < 1:
        raise InvalidValue(f" is {args.ray_cpus}; accepted: 1 or more", argument="ray_cpus")
    if not 0 <= args.ray_gpus <= 64:
        raise InvalidValue(f" is {args.ray_gpus:g}; accepted: 0 to 64", argument="ray_gpus")
    if args.ray_gpus > 1 and args.ray_gpus != int(args.ray_gpus):
        raise InvalidValue(
            f" is {args.ray_gpus:g}; accepted: a part of one, or whole GPUs", argument="ray_gpus"
        )
    if args.ray_workers < 0:
        raise InvalidValue(f" is {args.ray_workers}; accepted: 0 or more", argument="ray_workers")
    if args.ray and not isinstance(folder_of(args.out), LocalFolder):
        raise InvalidValue(
            f" is {args.out}; accepted with --ray: a folder that all machines see, which can be "
            "copied to object storage when the run is complete",
            argument="out",
        )
    if args.strict and not args.ray:
        raise InvalidValue(
            " is given without --ray; one process always ends at a source that cannot be read",
            argument="strict",
        )


class FleetToRead(NamedTuple):
    """What the options choose, with the sources that cannot be read in their places."""

    chosen: ToRead
    sources: list[Source]
    names: list[str]


def fleet_to_read(args: Namespace, columns: tuple[str, ...]) -> FleetToRead:
    """Read as :func:`what_to_read`, and go on without bags that cannot be opened.

    Raises:
        UserError: As :func:`what_to_read`; with ``strict`` also for any bag.
    """
    given = given_sources(args.sources)
    names = [source.name for source in given]
    if not any(isinstance(source, StoredBag) or is_bag(source) for source in given):
        chosen = given_to_read(args, given, columns)
        return FleetToRead(chosen, chosen.sources, names)
    broken = {n: error for n, source in enumerate(given) if (error := _why_not(source))}
    if broken and (args.strict or len(broken) == len(given)):
        raise next(iter(broken.values()))
    readable = [source for n, source in enumerate(given) if n not in broken]
    chosen = given_to_read(args, readable, columns)
    remaining = iter(chosen.sources)
    sources = [
        UnreadableSource(Path(source.name), str(broken[n])) if n in broken else next(remaining)
        for n, source in enumerate(given)
    ]
    return FleetToRead(chosen, sources, names)


def _why_not(path: Path | StoredBag) -> UserError | None:
    """Return why ``path`` cannot be opened as a bag. Object storage is asked by the survey."""
    if isinstance(path, StoredBag):
        return None
    try:
        check_recording(path)
        with BagReader(path):
            return None
    except UserError as error:
        return error
    except OSError as error:
        return InvalidValue(f"{path}: {error}")
