"""The one base class of the errors that are written for the user of a command or of the node, and
how they show values.

Values, labels, topics and frame ids come from strangers: they may be megabytes long, and hold
terminal escapes, NUL or halves of surrogate pairs. Whoever puts one into a text takes :func:`shown`
or :func:`printable`.
"""

import reprlib
import traceback
from typing import Any

MOST_SHOWN = 200
MOST_SAID = 4000
MOST_TRACED = 3000  # leaves room for a topic's name in front of it, within MOST_SAID


def printable(text: str, most: int = MOST_SAID, keep: str = "\n\t") -> str:
    """``text`` for a log, a terminal or a message: at most ``most`` characters of it, and then how
    many there were.

    What does not print (terminal escapes, NUL, lone surrogates, marks that turn the direction of
    writing) is written as Python would, ``\\x1b``; the characters of ``keep`` stay.
    """
    kept = text[:most]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in kept)
    return kept if len(text) <= most else f"{kept}... ({len(text)} characters)"


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """``value`` as Python writes it, in one line of about ``most`` characters; of a longer one how
    long it is.

    Only what is shown is looked at, so that a value of 30 MB costs nothing.
    """
    if isinstance(value, str | bytes):
        unit = "bytes" if isinstance(value, bytes) else "characters"
        return repr(value) if len(value) <= most else f"{value[:most]!r}... ({len(value)} {unit})"
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother, brief.maxlong = 4, most, most, most
    brief.maxlist = brief.maxtuple = brief.maxdict = brief.maxset = brief.maxfrozenset = (
        brief.maxdeque
    ) = 20
    try:
        text = brief.repr(value)
    except ValueError:
        text = (
            f"a number of {value.bit_length()} bits"
            if isinstance(value, int)
            else f"a {type(value).__name__}"
        )
    if len(text) > most:
        text = f"{text[:most]}..."
    count = len(value) if isinstance(value, list | tuple | dict | set | frozenset) else 0
    return printable(f"{text} ({count} entries)" if count > 20 else text, 2 * most, keep="")


class UserError(Exception):
    """Something that the user can mend; its message names the file, topic or parameter, the value,
    what is accepted.

    The command line and the node print the message alone. Every other exception is a defect of
    ours, and keeps its traceback. Errors of the system (OSError) count as the user's too: a full
    disk is nobody's defect. Whatever the message was made of, it prints and is of bounded length.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidValue(UserError, ValueError):
    """A value that is not accepted."""


class OperationFailed(UserError, RuntimeError):
    """Something that was asked for rightly, and could not be done."""


def is_for_the_user(error: BaseException) -> bool:
    """True where ``error`` needs no traceback: its message says what to mend."""
    return isinstance(error, UserError | OSError)


def traced(error: BaseException) -> str:
    """The traceback of ``error`` for a log, at most about 3,000 characters: of a longer one its
    end, which tells most.

    The message of the error is cut from behind, so that a long one does not push the lines of code
    out.
    """
    whole = traceback.TracebackException.from_exception(error)
    last = list(whole.format_exception_only())
    said = printable("".join(last).rstrip(), MOST_TRACED // 3)
    lines = "".join(list(whole.format())[: -len(last)])
    kept = lines[-(MOST_TRACED - len(said)) :]
    cut = f"... ({len(lines) - len(kept)} characters before)\n" if len(kept) < len(lines) else ""
    return f"{cut}{printable(kept)}{said}"


def told(error: BaseException) -> str:
    """What a log says of ``error``: the message where it is for the user, the traceback of a
    defect.
    """
    return str(error) if is_for_the_user(error) else traced(error)
