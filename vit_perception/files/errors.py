"""The base class of errors that users can fix, and how error messages show values.

Values, labels, topics and frame ids come from strangers: they may be megabytes long and hold
terminal escapes, NUL or halves of surrogate pairs. Texts show them with :func:`shown` or
:func:`printable`.
"""

import difflib
import reprlib
import traceback
from collections.abc import Iterable
from itertools import islice
from typing import Any

MOST_SHOWN = 200
MOST_ENTRIES = 20  # of a list or mapping
MOST_SAID = 4000
MOST_TRACED = 3000  # leaves room for a topic's name within MOST_SAID
MOST_COMPARED = 1000
# Python packages that pip does not install. All message packages end in _msgs.
ROS_PACKAGES = ("rclpy", "rcl_interfaces", "ament_index_python", "rosidl_runtime_py", "tf2_ros")


def printable(text: str, most: int = MOST_SAID, keep: str = "\n\t") -> str:
    """Make ``text`` safe for a log, a terminal or a message.

    Longer texts are cut to ``most`` characters, followed by their length. Characters that do not
    print (terminal escapes, NUL, lone surrogates, direction marks) are escaped as in Python,
    ``\\x1b``, except those in ``keep``.
    """
    kept = text[:most]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in kept)
    return kept if len(text) <= most else f"{kept}... ({len(text)} characters)"


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """Return ``value`` as Python writes it, in one line of about ``most`` characters.

    Longer values are cut, and their length is added. Only the shown part is read, so a value of
    30 MB costs nothing.
    """
    if isinstance(value, str | bytes):
        unit = "bytes" if isinstance(value, bytes) else "characters"
        return repr(value) if len(value) <= most else f"{value[:most]!r}... ({len(value)} {unit})"
    brief = reprlib.Repr()
    brief.maxlevel = 4
    brief.maxstring = brief.maxother = brief.maxlong = most
    brief.maxlist = brief.maxtuple = brief.maxdict = MOST_ENTRIES
    brief.maxset = brief.maxfrozenset = brief.maxdeque = MOST_ENTRIES
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
    text = f"{text} ({count} entries)" if count > MOST_ENTRIES else text
    return printable(text, 2 * most, keep="")


class UserError(Exception):
    """A problem that the user can fix; the message names file, topic or parameter, value, remedy.

    The command line and the node print the message alone. Every other exception except OSError is
    a bug and keeps its traceback. The message always prints and has a bounded length.

    ``argument`` names the argument whose value is wrong, and the text follows it. ``hint`` says on
    a line of its own what may help; it follows ``hint_argument``, an argument that would help. The
    command line shows both arguments as options.
    """

    def __init__(
        self, text: str = "", *, argument: str = "", hint: str = "", hint_argument: str = ""
    ):
        super().__init__(text)
        self.argument = argument
        self.hint = hint
        self.hint_argument = hint_argument

    def __str__(self) -> str:
        return self._text(self.argument, self.hint_argument)

    def for_command_line(self) -> str:
        """Return the message with arguments as options, for example ``--out: ...``."""
        return self._text(_option(self.argument), _option(self.hint_argument))

    def _text(self, argument: str, hint_argument: str) -> str:
        text = printable(argument + super().__str__())
        return text + hint_line(hint_argument + self.hint)


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}" if argument else ""


def hint_line(hint: str) -> str:
    """Return the line of ``hint`` below a message, with the line break; empty for no hint."""
    return f"\nhint: {printable(hint, MOST_TRACED)}" if hint else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the one of ``known`` that is most like ``name``; empty if none is.

    Of more than 1,000 names, the first 1,000 are looked at.
    """
    candidates = [each for each in islice(known, MOST_COMPARED) if len(each) <= MOST_SHOWN]
    alike = difflib.get_close_matches(name[:MOST_SHOWN], candidates, n=1)
    return f"did you mean {shown(alike[0])}?" if alike else ""


class InvalidValue(UserError, ValueError):
    """A value that is not accepted."""


class OperationFailed(UserError, RuntimeError):
    """A valid request that could not be carried out."""


def is_for_the_user(error: BaseException) -> bool:
    """Whether the message of ``error`` is enough, without a traceback."""
    return isinstance(error, UserError | OSError)


def traced(error: BaseException) -> str:
    """Return the traceback of ``error`` for a log, at most about 3,000 characters.

    Of a longer traceback the end is kept, of a long message the start: it must not displace the
    lines of code.
    """
    whole = traceback.TracebackException.from_exception(error)
    last = list(whole.format_exception_only())
    said = printable("".join(last).rstrip(), MOST_TRACED // 3)
    lines = "".join(list(whole.format())[: -len(last)])
    kept = lines[-(MOST_TRACED - len(said)) :]
    cut = f"... ({len(lines) - len(kept)} characters before)\n" if len(kept) < len(lines) else ""
    return f"{cut}{printable(kept)}{said}"


def told(error: BaseException) -> str:
    """Return what a log says of ``error``: the message for the user, or a bug's traceback."""
    return str(error) if is_for_the_user(error) else traced(error)


def missing_package(program: str, error: ModuleNotFoundError) -> str:
    """Return one line that says how to get the Python package that ``error`` did not find.

    Raises:
        ModuleNotFoundError: The module is one of this package: a defect, which pip does not mend.
    """
    if (error.name or "vit_perception").startswith("vit_perception"):
        raise error
    package = error.name.partition(".")[0]
    if package in ROS_PACKAGES or package.endswith("_msgs"):
        cure = "it comes with ROS 2: source its setup.bash"
    else:
        cure = "install it with pip: all that the subcommands need is in 'vit_perception[all]'"
    return f"{program}: {printable(str(error))}; {cure}"
