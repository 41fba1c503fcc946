"""Rerun's viewer as a process: a window, or what a browser needs."""

import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vit_perception.cli.processes import Child
from vit_perception.cli.watch.page import PageServer
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue, OperationFailed, printable

LOCAL = "127.0.0.1"
START_S = 60.0  # the longest start of the viewer
END_S = 5.0  # then it is killed
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class ViewerOptions:
    """What `watch` was asked for."""

    web: bool
    bind: str  # IPv4 address
    web_port: int
    data_port: int
    memory_mb: int

    def check(self) -> None:
        """Raises InvalidValue for what cannot be."""
        try:
            ipaddress.IPv4Address(self.bind)
        except ValueError as error:
            raise InvalidValue(
                f" is {self.bind!r}; accepted: an IPv4 address of this machine", argument="bind"
            ) from error
        if self.memory_mb < 50:
            raise InvalidValue(f" is {self.memory_mb}; accepted: 50 or more", argument="memory_mb")
        if not self.web:
            return
        for argument in ("web_port", "data_port"):
            port = getattr(self, argument)
            if not 1 <= port <= 65535:
                raise InvalidValue(f" is {port}; accepted: 1 to 65535", argument=argument)
            try:
                free_port(self.bind, port)
            except OSError as error:
                raise InvalidValue(
                    f": {self.bind}:{port} cannot be used: {error.strerror}; accepted: a free port",
                    argument=argument,
                ) from error
        if self.web_port == self.data_port:
            raise InvalidValue(
                f" is {self.web_port}, as --data-port; accepted: another one", argument="web_port"
            )


class Viewer:
    """The viewer, from its start until ``with`` ends.

    Raises:
        OperationFailed: It does not start; the message has what it said.
    """

    def __init__(self, options: ViewerOptions):
        self._folder = tempfile.TemporaryDirectory(prefix="vit_perception_watch_")
        self._options = options
        bind = options.bind if options.web else LOCAL
        port = options.data_port if options.web else free_port(LOCAL)
        self.data_url = f"rerun+http://{reachable(bind)}:{port}/proxy"
        self.says = "in the viewer's window"
        limit = f"{options.memory_mb}MB"
        given = ["--bind", bind, "--port", str(port), "--memory-limit", limit]
        inner_port = 0
        if options.web:
            inner_port = free_port(bind)
            given += ["--serve-web", "--web-viewer-port", str(inner_port)]
            given += ["--server-memory-limit", limit]
            if not ipaddress.IPv4Address(bind).is_loopback:
                given += ["--cors-allow-origin", f"http://*:{options.web_port}"]
        else:
            given += ["--hide-welcome-screen"]
        self._page: PageServer | None = None
        # The viewer has a process group of its own: without this, a watch that is killed leaves it.
        self._child = Child.module(
            "vit_perception.cli.watch.with_parent",
            str(os.getpid()),
            program(),
            *given,
            log=Path(self._folder.name) / "log",
            environment=self._environment(),
        )
        try:
            self._wait_for((reachable(bind), port), path="")
            if options.web:
                self._wait_for((reachable(bind), inner_port), path="/")
                self._page = PageServer(
                    address=(bind, options.web_port),
                    source=(reachable(bind), inner_port),
                    data_port=port,
                )
                self.says = f"open {self._page.url} in a browser"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def is_open(self) -> bool:
        """Whether the viewer runs; a window that was closed is its end.

        Raises:
            OperationFailed: It has ended with an error.
        """
        status = self._child.returncode
        if status not in (None, 0):
            raise OperationFailed(
                f"the viewer ended with exit status {status}: {self._last_line()}"
            )
        return status is None

    def close(self) -> None:
        """End the page and the process, and remove its folder."""
        if self._page is not None:
            self._page.close()
        self._child.stop(END_S, sent=signal.SIGTERM)
        self._folder.cleanup()

    def _environment(self) -> dict[str, str]:
        """Warnings alone in its log, and no reports about its use.

        Rerun has no variable for the latter: it reads this file. The user's own settings stay.
        """
        folder = Path(self._folder.name)
        (folder / "rerun").mkdir()
        settings = {
            "analytics_enabled": False,
            "analytics_id": "",
            "metadata": {},
            "config_file_path": str(folder / "rerun/analytics.json"),
            "data_dir_path": str(folder),
        }
        text = json.dumps(settings)
        write_whole(folder / "rerun/analytics.json", lambda file: file.write_text(text))
        return {"RUST_LOG": "warn", "XDG_CONFIG_HOME": str(folder)}

    def _wait_for(self, address: tuple[str, int], path: str) -> None:
        """Wait until somebody listens there; with a ``path``, until it is served."""
        deadline_s = time.monotonic() + START_S
        while True:
            if self._child.returncode is not None:
                raise OperationFailed(f"the viewer does not start: {self._last_line()}")
            with suppress(OSError, http.client.HTTPException):
                if path:
                    connection = http.client.HTTPConnection(*address, timeout=START_S)
                    connection.request("GET", path)
                    if connection.getresponse().status == http.client.OK:
                        connection.close()
                        return
                else:
                    socket.create_connection(address, START_S).close()
                    return
            if time.monotonic() > deadline_s:
                raise OperationFailed(
                    f"the viewer does not listen on {address[0]}:{address[1]} after {START_S:g} s: "
                    f"{self._last_line()}"
                )
            time.sleep(0.05)

    def _last_line(self) -> str:
        lines = _COLOURS.sub("", self._child.tail()).split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return printable(said, keep="")


def program() -> str:
    """Return the path of Rerun's program.

    The package's own script would start it as a process of its own, which stays if the script is
    ended.
    """
    import rerun_cli

    given = os.environ.get("RERUN_CLI_PATH")
    path = Path(given or Path(rerun_cli.__path__[0]) / "rerun")
    if not path.exists():
        raise OperationFailed(f"rerun-sdk is installed without its viewer: there is no {path}")
    return str(path)


def free_port(address: str, port: int = 0) -> int:
    """Return ``port``, or a free one for 0.

    Raises:
        OSError: It is taken, or the address is not of this machine.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((address, port))
        return int(trial.getsockname()[1])


def reachable(bind: str) -> str:
    """Return the address under which this machine reaches what listens on ``bind``."""
    return LOCAL if ipaddress.IPv4Address(bind).is_unspecified else bind
