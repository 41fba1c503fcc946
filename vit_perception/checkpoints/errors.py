"""The error of this folder, and the texts that its messages are made of."""

from itertools import zip_longest

from vit_perception.files.errors import InvalidValue

# More lines would push the first ones, which say what is wrong, off a screen.
_MOST_LINES = 40
_LONGEST_LINE = 2000


class CheckpointError(InvalidValue):
    """A checkpoint cannot be used. The message names the file, what is wrong, and what is accepted.

    Text from a file is cut, and shown without codes that a terminal would obey.
    """

    def __init__(self, message: str, *, hint: str = ""):
        super().__init__("\n".join(_shown(line) for line in message.split("\n")), hint=hint)


class MisfitError(CheckpointError):
    """Names or shapes of a file's tensors that do not fit the model."""

    def __init__(
        self, message: str, missing: list[str], unexpected: list[str], misshaped: list[str]
    ):
        super().__init__(message)
        # Names of the model that the file does not hold.
        self.missing = missing
        # Names of the file that the model does not have.
        self.unexpected = unexpected
        # Names, of the model, of tensors of another shape.
        self.misshaped = misshaped


def first_line(error: Exception) -> str:
    """Give the first line of an exception's text, or its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def side_by_side(left_title: str, left: list[str], right_title: str, right: list[str]) -> list[str]:
    """Lay two columns with titles out as lines of text; no lines if both are empty.

    A long column is cut, and the number of its further lines given.
    """
    if not left and not right:
        return []
    left = _cut(left)
    right = _cut(right)
    width = max(map(len, [left_title, *left]))
    rows = [(left_title, right_title), *zip_longest(left, right, fillvalue="")]
    return [f"  {a:<{width}} | {b}".rstrip() for a, b in rows]


def _shown(line: str) -> str:
    line = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} …"
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _cut(lines: list[str]) -> list[str]:
    surplus = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {surplus} more"] if surplus > 0 else lines
