"""What one step has seen, written to its file after every entry."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tools.gpu_test.report import FAILED, PASSED, SKIPPED, write_json
from vit_perception.engines.cuda.fault import GpuLost, lost

_MOST_TEXT = 4000


class LeftOut(Exception):
    """A step that cannot be done on this machine; the text says why."""


class Note:
    """The ``result`` of the step ``name``, on the disk at ``path`` from the first moment on.

    It counts as failed until :meth:`end`: a process that dies has failed. ``deadline_s`` is in
    time.monotonic's time, which all processes of a machine share.
    """

    def __init__(self, path: Path, name: str, deadline_s: float = float("inf")):
        self._path, self._deadline_s, self._begun_s = path, deadline_s, time.monotonic()
        self.result = {
            "name": name,
            "status": FAILED,
            "why": "it did not come to its end",
            "checks": [],
            "figures": {},
        }
        self._write()

    def check(self, ok: bool, what: str, seen: object = "") -> bool:
        """Note whether ``what`` is so, and what was ``seen``. The step goes on either way."""
        self.result["checks"].append({"what": what, "ok": bool(ok), "seen": str(seen)[:_MOST_TEXT]})
        self._write()
        return bool(ok)

    def figure(self, name: str, value: object) -> None:
        """Note a number, a text, or a dictionary of them."""
        self.result["figures"][name] = value
        self._write()

    def row(self, row: dict) -> None:
        """Note one more row of the step's table."""
        self.result.setdefault("rows", []).append(row)
        self._write()

    def attempt(self, what: str, run: Callable[[], object]) -> None:
        """``run()``; what it raises is a failed check with its traceback, and the step goes on.

        Raises LeftOut, and GpuLost: nothing more can be tried in this process.
        """
        try:
            run()
        except (LeftOut, GpuLost):
            raise
        except Exception:  # whatever it is, the other attempts are worth their time
            self.check(False, what, traceback.format_exc()[-_MOST_TEXT:])

    def time_left(self, needed_s: float = 0.0) -> bool:
        """Whether the step may still begin something that takes ``needed_s``."""
        return time.monotonic() + needed_s < self._deadline_s

    def end(self, run: Callable[[], object]) -> bool:
        """``run()`` the step, and note what it came to; whether the process can still use the
        GPU.
        """
        try:
            run()
            checks, rows = self.result["checks"], self.result.get("rows", ())
            failed = [check["what"] for check in checks if not check["ok"]]
            if failed:
                self._say(FAILED, f"{len(failed)} of {len(checks)} checks")
            elif not checks and not any("p50_ms" in row for row in rows):
                self._say(FAILED, "it has checked and measured nothing")
            else:
                self._say(PASSED, "")
        except LeftOut as reason:
            self._say(SKIPPED, str(reason))
        except Exception as error:  # the next step goes on
            self.result["traceback"] = traceback.format_exc()[-_MOST_TEXT:]
            self._say(FAILED, f"{type(error).__name__}: {error}"[:_MOST_TEXT])
            return lost(error) is None
        return True

    def _say(self, status: str, why: str) -> None:
        self.result |= {"status": status, "why": why}
        self._write()

    def _write(self) -> None:
        self.result["seconds"] = time.monotonic() - self._begun_s
        write_json(self._path, self.result)
