"""Exports and builds in a process of their own: when it ends, all memory that they took is free.

The process is new, never a fork: the node has threads, and perhaps CUDA, which a fork does not
survive. It gets its orders through one pipe and answers through another, one line of JSON for each
thing that it says. It never outlives the thread that waits for it. That thread kills it when it is
interrupted, and Linux kills it when the parent dies.
"""

import ctypes
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from vit_perception.engines.building.memory import HELP, free_memory, gib
from vit_perception.engines.cuda.fault import elsewhere
from vit_perception.engines.engine import EngineError
from vit_perception.files.errors import InvalidValue, UserError, printable, traced
from vit_perception.files.log import Log
from vit_perception.files.process_group import OWN_GROUP

# The parent's search path replaces one that begins with the current folder, before any import.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from vit_perception.engines.building.child import _main; "
    "_main(int(sys.argv[1]), int(sys.argv[2]))"
)
_PR_SET_PDEATHSIG = 1
_LAST_WORDS = 1000  # characters of what a process that died had printed


def call_in_child(
    function: Callable[..., None],
    *arguments: Any,
    doing: str,
    log: Log,
) -> int:
    """Call ``function(*arguments, log)`` in a process of its own; return the most memory it took.

    The memory is in bytes. ``function`` belongs to a module, and its arguments can be pickled. What
    its ``log`` hears reaches the ``log`` given here, in this thread. An error that this raises, or
    Ctrl-C here, ends the process at once and passes through. ``doing`` names the work in messages.

    Raises:
        EngineError: ``function`` raised it; or the process died. Then the message has the signal,
            the memory that the process had, and what would help.
        InvalidValue: ``function`` raised an error for the user.
        OSError: ``function`` raised it; the number is the same.
        RuntimeError: ``function`` raised anything else. Its cause has the child's traceback.
    """
    if not sys.executable:
        raise EngineError(
            f"{doing}: this program is no Python that can be started again (sys.executable is "
            "empty); build with vit-perception build"
        )
    with ExitStack() as stack:
        try:
            printed = stack.enter_context(tempfile.TemporaryFile())
            process, answers = _start(printed)
        except OSError as error:  # the cache would report that it cannot be written
            raise EngineError(f"{doing}: no process can be started for it: {error}") from error
        stack.enter_context(answers)
        try:
            with suppress(BrokenPipeError), process.stdin as orders:  # if it died at its start
                orders.write(pickle.dumps((function, arguments)))
            error, peak_bytes = _listen(answers, log)
            status = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if error is not None:
            raise elsewhere(error)  # a GPU that the child lost works here
        if status:
            raise elsewhere(
                EngineError(f"{doing} {_why_it_died(status, peak_bytes, _end_of(printed))}")
            )
    return peak_bytes


def _start(printed: BinaryIO) -> tuple[subprocess.Popen, BinaryIO]:
    """Start the child, which waits for its orders; return it and the pipe of its answers."""
    reading, writing = os.pipe()
    answers = os.fdopen(reading, "rb")
    try:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                _PROGRAM,
                str(writing),
                str(os.getpid()),
                *(entry for entry in sys.path if isinstance(entry, str)),
            ],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            **OWN_GROUP,  # Ctrl-C reaches the parent alone, which decides
        ), answers
    except BaseException:
        answers.close()
        raise
    finally:
        os.close(writing)


def _listen(answers: BinaryIO, log: Log) -> tuple[Exception | None, int]:
    """Pass on what the child says until it ends.

    Return the error that it ended with, or None, and the most memory that it had, in bytes.
    """
    error = None
    peak_bytes = 0
    for line in answers:
        if not line.endswith(b"\n"):  # it was killed while it spoke
            break
        kind, content, peak_bytes = json.loads(line)
        if kind == "info":
            log.info(content)
        elif kind == "warning":
            log.warning(content)
        elif kind == "progress":
            log.progress(*content)
        elif kind == "error":
            error = _error_of(*content)
    return error, peak_bytes


def _error_of(kind: str, text: str, number: int | None) -> Exception:
    """Make the error that the parent raises for an error of the child."""
    if kind == "user":
        return EngineError(text)
    if kind == "value":
        return InvalidValue(text)
    if kind == "system":
        return OSError(number, text) if number else OSError(text)
    error = RuntimeError(text.rstrip().rpartition("\n")[2])
    error.__cause__ = _InTheChild(f"\n{text}")
    return error


class _InTheChild(Exception):
    """Shows the traceback of the child when that of the parent is printed."""


def _why_it_died(status: int, peak_bytes: int, printed: str) -> str:
    had = f"; it had taken up to {gib(peak_bytes)} by its last sign of life" if peak_bytes else ""
    last = f"; the last that it printed: {printed}" if printed else ""
    if status > 0:
        return f"failed: its process ended with status {status}{had}{last}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if -status == signal.SIGKILL:
        return (
            f"was ended by {name}, as Linux does where memory runs out{had}; {free_memory()} now: "
            f"{HELP}{last}"
        )
    memory = f"; where memory ran out: {HELP}" if "alloc" in printed else ""
    return f"was ended by {name}{had}{last}{memory}"


def _end_of(printed: BinaryIO) -> str:
    length = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, length - _LAST_WORDS))
    return printable(printed.read().decode(errors="replace").strip(), _LAST_WORDS)


# -- in the child ----------------------------------------------------------------------------------


def _main(answers: int, parent: int) -> None:
    """Carry out the orders from standard input. The process ends here."""
    os.set_inheritable(answers, False)
    # Whatever ends the parent, SIGKILL too, ends this process. It may have ended before this call.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # If memory runs out, Linux ends this process before the node and what else the robot needs.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")
    from vit_perception.files import telemetry

    telemetry.off()
    lock = threading.Lock()

    def say(kind: str, content: Any) -> None:
        line = json.dumps((kind, content, _peak_bytes())).encode() + b"\n"
        with lock, open(answers, "wb", closefd=False) as file:
            file.write(line)

    try:
        function, arguments = pickle.load(sys.stdin.buffer)
        function(*arguments, _ParentsLog(say))
        say("end", None)
    except Exception as error:  # whatever it is, the parent raises it
        say("error", _for_the_parent(error))
    # Skip the libraries' own clean-up: everything is written.
    os._exit(0)


class _ParentsLog:
    """The log of the child: everything goes through the pipe."""

    def __init__(self, say: Callable[[str, Any], None]):
        self._say = say

    def info(self, text: str) -> None:
        self._say("info", text)

    def warning(self, text: str) -> None:
        self._say("warning", text)

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        self._say("progress", (what, fraction, text))


def _for_the_parent(error: Exception) -> tuple[str, str, int | None]:
    if isinstance(error, EngineError):
        return "user", str(error), None
    if isinstance(error, UserError):
        return "value", str(error), None
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        return (
            "system",
            str(error) if error.errno is None else f"{error.strerror}: {error.filename}",
            error.errno,
        )
    if isinstance(error, MemoryError | OSError) or "can't allocate memory" in str(
        error
    ):  # numpy's and torch's
        return "user", f"memory runs out ({printable(str(error), _LAST_WORDS)}): {HELP}", None
    return "defect", traced(error), None


def _peak_bytes() -> int:
    """Return the most memory that this process had at once.

    getrusage would also count what the parent had at the start.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next((int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")), 0)
