"""A long operation that says nothing for a while is told to be alive, with the time so far."""

import threading
import time
from types import TracebackType

from vit_perception.files.log import Log

PERIOD_S = 5.0


class Heartbeat:
    """A log that passes everything on, and repeats the last sentence while nothing is said.

    Use it in a ``with`` block around the operation. A thread calls ``log`` each ``period_s`` in
    which nothing else did: ``loading checkpoint demo: 15 s so far``. ``what`` is what the operation
    is at before it says anything.
    """

    def __init__(self, log: Log, period_s: float = PERIOD_S, what: str = ""):
        self._log = log
        self._period_s = period_s
        self._what = what
        self._begun_s = self._said_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def info(self, text: str) -> None:
        """Pass ``text`` on; from now on the operation is at that."""
        self._begun_s = self._said_s = time.monotonic()
        self._what = text
        self._log.info(text)

    def warning(self, text: str) -> None:
        """Pass ``text`` on. What the operation is at stays."""
        self._said_s = time.monotonic()
        self._log.warning(text)

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        """Pass it on; a sentence counts as a sign of life."""
        if text:
            self._said_s = time.monotonic()
        self._log.progress(what, fraction, text)

    def _run(self) -> None:
        while True:
            quiet_s = time.monotonic() - self._said_s
            if self._ended.wait(max(0.01, self._period_s - quiet_s)):
                return
            now_s = time.monotonic()
            if not self._what or now_s - self._said_s < self._period_s:
                continue
            self._said_s = now_s
            try:
                self._log.info(f"{self._what}: {now_s - self._begun_s:.0f} s so far")
            except Exception:
                return  # the listener wants an end; the operation meets the same at its next word
