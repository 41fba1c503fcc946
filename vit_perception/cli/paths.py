"""Paths on the command line."""

from argparse import ArgumentTypeError
from pathlib import Path

from vit_perception.config.checks import home_path
from vit_perception.files.errors import InvalidValue


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
