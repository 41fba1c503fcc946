"""Paths, recordings and checkpoints on the command line: what several subcommands take."""

from argparse import ArgumentTypeError, _ActionsContainer
from pathlib import Path

from vit_perception.config.checks import home_path
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.urls import is_url


def user_path(text: str) -> Path:
    """Return a path that may begin with ``~`` or ``~user``, for argparse.

    A shell leaves those in place in ``--out=~/x``.

    Raises:
        ArgumentTypeError: There is no such user.
    """
    try:
        return Path(home_path(text))
    except InvalidValue as error:
        raise ArgumentTypeError(str(error)) from error


def user_place(text: str) -> Path | str:
    """Return a path as :func:`user_path`; a URL, and a list of sources (``@FILE``), as it is."""
    return text if is_url(text) or text.startswith("@") else user_path(text)


def add_bag_argument(group: _ActionsContainer) -> None:
    """Add the positional argument ``bag``, one recording, to a parser or to a group of one."""
    group.add_argument(
        "bag", type=user_path, help="rosbag2 folder, or one .mcap or .db3 file of it"
    )


def add_checkpoint_option(
    group: _ActionsContainer, default: str | None = "demo", meaning: str = "demo"
) -> None:
    """Add ``--checkpoint`` to a parser or to a group of one.

    ``default`` is its value where it is not given: None tells a subcommand that it was not.
    ``meaning`` is what the help says of that.
    """
    group.add_argument(
        "--checkpoint",
        default=default,
        help="the model: a folder, a file, hf://owner/name, or demo (DINOv2 ViT-S/14; default: "
        f"{meaning})",
    )


def add_family_option(group: _ActionsContainer, default: str | None = "auto") -> None:
    """Add ``--family``, the checkpoint's, to a parser or to a group of one.

    ``default`` is its value where it is not given: None tells a subcommand that it was not.
    """
    group.add_argument(
        "--family",
        default=default,
        help="where the checkpoint comes from, if detection fails; docs/checkpoints.md lists the "
        "families (default: auto)",
    )
