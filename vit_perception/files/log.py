"""What an operation of seconds or minutes says while it runs, and a few listeners.

The level of a sentence is the method that is called, never a part of the text. Who listens decides
how a level looks.
"""

from typing import Protocol


class Log(Protocol):
    """Listen to an operation. A method that raises ends the operation.

    A node that is shut down ends a build of minutes in this way.
    """

    def info(self, text: str) -> None:
        """Take a sentence about what happens."""

    def warning(self, text: str) -> None:
        """Take a sentence about what is wrong, but does not stop the operation."""

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        """Take that ``what`` is done up to ``fraction``, 0 to 1.

        It is called for each percent. Every few seconds ``text`` says the same in a sentence.
        """


class SilentLog:
    """Show nothing."""

    def info(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        pass


class PrintedLog:
    """Print each sentence as one line, for a command line. Lines of warnings begin with WARNING."""

    def info(self, text: str) -> None:
        print(text, flush=True)

    def warning(self, text: str) -> None:
        print(f"WARNING: {text}", flush=True)

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        if text:
            print(text, flush=True)


SILENT = SilentLog()
