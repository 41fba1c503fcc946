"""Debian's Chromium without a window, driven through its DevTools pipe: no further package."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from vit_perception.files.process_group import OWN_GROUP

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_S = 120.0  # ends a test whose browser hangs
# WebGL on a machine without a GPU. The sandbox needs rights that a container does not give.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
)


def chromium() -> str:
    """The path of the browser; the test is skipped where there is none."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed (apt install chromium)")


class Browser:
    """One page: ``with Browser(folder) as page: page.open(url); page.screenshot()``.

    ``folder`` is for its profile. ``requests`` are the addresses that it has asked for.
    """

    def __init__(self, folder: Path, width_px: int = 1400, height_px: int = 1000):
        program = chromium()
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                shell,
                "bash",
                program,
                *OPTIONS,
                f"--user-data-dir={folder}",
                f"--window-size={width_px},{height_px}",
                "about:blank",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **OWN_GROUP,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.requests: list[str] = []
        self.answered: set[str] = set()  # hosts and ports
        self.refused: set[str] = set()  # by the page's own policy
        self._addresses: dict[str, str] = {}  # of requests by their number
        self.said: list[str] = []  # on the page's console
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False

    def __enter__(self) -> "Browser":
        pages = self._ask("Target.getTargets")["targetInfos"]
        page = next(each for each in pages if each["type"] == "page")
        found = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, url: str) -> None:
        """Load ``url``; what its scripts begin then may take longer."""
        answer = self._ask("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        deadline_s = time.monotonic() + ANSWER_S
        while not self._loaded:
            self._next(deadline_s)

    def screenshot(self) -> bytes:
        """What the page looks like now, as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot")["data"])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            answer = self._next(deadline_s)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self, deadline_s: float) -> dict[str, Any]:
        """The next message; events are noted."""
        while b"\0" not in self._buffer:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0 and select.select([self._in], [], [], left_s)[0], "no answer"
            data = os.read(self._in, 1 << 20)
            assert data, f"the browser has ended with {self._process.poll()}"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        """Keep what an event says about requests and the console."""
        if event == "Network.requestWillBeSent":
            self._addresses[params["requestId"]] = url = params["request"]["url"]
            self.requests.append(url)
        elif event == "Network.responseReceived":
            self.answered.add(urlsplit(params["response"]["url"]).netloc)
        elif event == "Network.loadingFailed" and params.get("blockedReason") == "csp":
            self.refused.add(urlsplit(self._addresses[params["requestId"]]).netloc)
        elif event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(a.get("value", "")) for a in params["args"]))
