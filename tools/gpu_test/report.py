"""The JSON file of one part, whole after every step, and what is printed of it."""

import datetime
import json
from pathlib import Path

from benchmarks.gpu_figures import result_name, rounded
from vit_perception.files.atomic import write_whole

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


def write_json(path: Path, value: object) -> None:
    """``value`` as the file ``path``, in one step; floats with five digits, NaN and infinity as
    text.
    """
    text = json.dumps(rounded(value), indent=1)
    write_whole(path, lambda file: file.write_text(text + "\n"))


class Report:
    """One part's results at ``path``; ``facts`` are the machine's. Whoever is killed leaves what
    was there before.
    """

    def __init__(self, path: Path, part: str, facts: dict):
        self.path = path
        self._content = {
            "part": part,
            "begun": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            **facts,
            "steps": [],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, result: dict) -> None:
        """The ``result`` of one more step; written at once."""
        self._content["steps"].append(result)
        self._write()

    def close(self) -> bool:
        """Write what the part came to; whether something ran and nothing failed."""
        counts = {
            status: sum(step["status"] == status for step in self.steps)
            for status in (PASSED, FAILED, SKIPPED)
        }
        self._content["summary"] = counts
        self._write()
        return counts[PASSED] > 0 and not counts[FAILED]

    @property
    def steps(self) -> list[dict]:
        """The results so far, in the order of the plan."""
        return self._content["steps"]

    def _write(self) -> None:
        write_json(self.path, self._content)


def line(result: dict) -> str:
    """One line for people, and one for each check that failed."""
    why = f": {result['why']}" if result.get("why") else ""
    lines = [f"{result['status']:<8} {result['name']:<20} {result.get('seconds', 0):6.1f} s{why}"]
    lines += [
        f"           {check['what']}: {check['seen']}"
        for check in result.get("checks", ())
        if not check["ok"]
    ]
    return "\n".join(lines)


def file_name(device: str, part: str) -> str:
    """``NVIDIA H200``, ``tests`` -> ``nvidia-h200-tests.json``."""
    return result_name(f"{device} {part}")
