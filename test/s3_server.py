"""A real S3 server as a process, and a proxy before it that disturbs requests.

The server is moto's. It checks no credentials, except that a request without any is refused.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

REGION = "us-east-1"


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Run a server; yield its URL."""
    program = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", program], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield _url_in(log, server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _url_in(log: Path, server: subprocess.Popen) -> str:
    """Return what the server writes once it listens."""
    waiting = threading.Event()
    for _ in range(1200):
        if found := re.search(r"Running on (http://[\d.:]+)", log.read_text()):
            return found.group(1)
        assert server.poll() is None, log.read_text()
        waiting.wait(0.05)
    raise AssertionError(f"no server after a minute: {log.read_text()}")


def environment(url: str) -> dict[str, str]:
    """Return the variables with which this package finds the server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def make_bucket(url: str, name: str) -> None:
    from pyarrow import fs

    fs.S3FileSystem(
        access_key="test",
        secret_key="test",
        region=REGION,
        endpoint_override=url,
        allow_bucket_creation=True,
    ).create_dir(name)


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose path fits ``path``."""

    method: str
    # One of "error" (status 500), "cut" (the connection ends in the middle of the body) and "slow".
    kind: str
    times: int
    path: str = ""


@dataclass
class Faults:
    """The faults of a proxy, and how many of each kind have happened."""

    planned: list[Fault] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)
    # Whether requests without credentials are refused, as S3 does; moto answers most of them.
    refuses_unsigned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_for(self, method: str, path: str) -> str:
        with self.lock:
            for fault in self.planned:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    self.happened[fault.kind] = self.happened.get(fault.kind, 0) + 1
                    return fault.kind
        return ""


SLOW_S = 0.5


@contextmanager
def faulty_proxy(url: str) -> Iterator[tuple[str, Faults]]:
    """Run a proxy before the server at ``url``; yield its URL and its faults, at first none."""
    faults = Faults()
    host = urlsplit(url).netloc
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *unused) -> None:
            pass

        def sent_body(self, cuts: bool) -> bytes | None:
            """Return what the client sends; None after the first half of it if it ``cuts``."""
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length // 2 if cuts else length)
                return None if cuts else body
            parts = []
            while length := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(length // 2 if cuts else length))
                if cuts:
                    return None
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def refuse(self, status: int, code: str) -> None:
            text = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else text)

        def forward(self) -> None:
            kind = faults.next_for(self.command, self.path)
            body = self.sent_body(cuts=kind == "cut" and self.command in ("PUT", "POST"))
            if body is None:
                self.close_connection = True
                return
            if faults.refuses_unsigned and "authorization" not in self.headers:
                self.refuse(403, "AccessDenied")
                return
            if kind == "error":
                self.refuse(500, "InternalError")
                return
            if kind == "slow":
                ended.wait(SLOW_S)
            server = http.client.HTTPConnection(host)
            left_out = ("expect", "transfer-encoding", "content-length", "connection")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            if not answer.getheader("Content-Length"):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if kind == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            else:
                self.wfile.write(content)
            server.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", faults
    finally:
        ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
