"""`vit-perception watch` as a process, and what its viewer has been given."""

import socket
import sys
from pathlib import Path

import pytest

from test.waiting import wait_for_words, wait_until
from vit_perception.cli.processes import Child

pytest.importorskip("rerun", reason="rerun-sdk is not installed")

from rerun.chunk import RrdReader

from vit_perception.cli.watch.viewer import program


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class Watch(Child):
    """``vit-perception watch --web`` on ports of its own, once it says that it watches."""

    def __init__(self, folder: Path, *options: str):
        self.web_port, self.data_port = two_free_ports()
        ports = ("--web-port", str(self.web_port), "--data-port", str(self.data_port))
        arguments = ["-m", "vit_perception.cli.main", "watch", "--web", "--wait-s", "100"]
        super().__init__([sys.executable, *arguments, *ports, *options], folder / "watch.log")
        self.url = f"http://127.0.0.1:{self.web_port}/"
        wait_for_words(self, "watching /vit_encoder: open ")

    def says(self, words: str, step=lambda: None) -> None:
        wait_until(lambda: step() or words in self.log.read_text(), repr(words), self.tail)

    def viewer_pid(self) -> int:
        """Of Rerun's process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        (found,) = [
            pid
            for pid in children
            # An environment may be reached through links.
            if Path(f"/proc/{pid}/exe").resolve() == Path(program()).resolve()
        ]
        return int(found)


class Seen(Child):
    """A second viewer of ``watch``, which saves what it is given."""

    def __init__(self, watch: Watch, folder: Path):
        self.file = folder / f"seen_{watch.data_port}.rrd"
        url = f"rerun+http://127.0.0.1:{watch.data_port}/proxy"
        more = ["--port", "auto", "--bind", "127.0.0.1"]
        super().__init__([program(), url, "--save", str(self.file), *more], folder / "seen.log")

    def chunks(self) -> dict[str, list]:
        """By entity, without the leading slash; nothing while the file begins to be written."""
        found: dict[str, list] = {}
        if self.file.exists() and self.file.stat().st_size:
            try:
                for chunk in RrdReader(str(self.file)).stream().to_chunks():
                    found.setdefault(str(chunk.entity_path).lstrip("/"), []).append(chunk)
            except (RuntimeError, ValueError):
                return {}
        return found

    def until(self, expected: set[str], step) -> dict[str, list]:
        """The chunks, once there are some of every entity in ``expected``."""
        return wait_until(
            lambda: (chunks := self.chunks()) and expected <= set(chunks) and chunks,
            f"all of {sorted(expected)}",
            lambda: f"missing: {sorted(expected - set(self.chunks()))}\n{self.tail()}",
            step=step,
        )


def values(chunks: list, column: str) -> list:
    """What the chunks of an entity hold in a column."""
    return [
        value for chunk in chunks for value in chunk.to_record_batch().column(column).to_pylist()
    ]
