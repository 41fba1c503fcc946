"""The one error of this folder, and the texts that its messages are made of."""

from itertools import zip_longest

from vit_perception.files.errors import InvalidValue

# More would push the first lines, which say what is wrong, off a screen.
_MOST_LINES, _LONGEST_LINE = 40, 2000


class CheckpointError(InvalidValue):
    """A checkpoint that cannot be used; the message names the file, what is wrong, and what is
    accepted.

    What a file says of itself is shown in bounds, and without codes that a terminal would obey.
    """

    def __init__(self, message: str):
        super().__init__("\n".join(_shown(line) for line in message.split("\n")))


def first_line(error: Exception) -> str:
    """What an exception says first, or its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def side_by_side(left_title: str, left: list[str], right_title: str, right: list[str]) -> list[str]:
    """Two columns as lines of text, with their titles; nothing where both are empty.

    Of a long column the first lines, and how many more there are.
    """
    if not left and not right:
        return []
    left, right = _first_of(left), _first_of(right)
    width = max(map(len, [left_title, *left]))
    return [
        f"  {a:<{width}} | {b}".rstrip()
        for a, b in [(left_title, right_title), *zip_longest(left, right, fillvalue="")]
    ]


def _shown(line: str) -> str:
    cut = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} …"
    return (
        cut if cut.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    )


def _first_of(lines: list[str]) -> list[str]:
    surplus = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {surplus} more"] if surplus > 0 else lines
