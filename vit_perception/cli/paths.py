"""Paths as the command line has them."""

from argparse import ArgumentTypeError
from pathlib import Path

from vit_perception.config.checks import home_path
from vit_perception.files.errors import InvalidValue


def user_path(text: str) -> Path:
    """A path that may begin with ``~`` or ``~user``, which a shell leaves in place in
    ``--out=~/x``; for argparse.
    """
    try:
        return Path(home_path(text))
    except InvalidValue as error:
        raise ArgumentTypeError(str(error)) from error
