"""Options of `embed` that change pictures at random, for training."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from vit_perception.datasets.repeats.augmented import Repeats
from vit_perception.image.augment import Strengths


def add_augment_arguments(parser: ArgumentParser) -> None:
    """Add the options as a group."""
    group = parser.add_argument_group("pictures changed at random, for training")
    group.add_argument(
        "--augment",
        type=int,
        default=0,
        metavar="N",
        help="embed each recording N more times, each time with other blobs, brightness and "
        "colours in its pictures; the column augment has the number of the repeat (default: 0)",
    )
    group.add_argument(
        "--augment-seed",
        type=int,
        default=0,
        metavar="SEED",
        help="of the random numbers (default: %(default)s)",
    )
    defaults = " ".join(f"{name}={value:g}" for name, value in asdict(Strengths()).items())
    group.add_argument(
        "--augment-strength",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"how much is changed (default: {defaults})",
    )


def repeats_of(args: Namespace) -> Repeats:
    """Return the repeats that the options ask for.

    Raises:
        InvalidValue: An option is not accepted.
    """
    return Repeats(
        count=args.augment,
        seed=args.augment_seed,
        strengths=Strengths.parsed(args.augment_strength),
    )
