"""Rerun's page for browsers, kept from asking anybody else.

As Rerun serves it, the page loads fonts from Google, asks GitHub for releases, and reports its use
to its makers. A Content-Security-Policy, which the browser enforces, leaves it this machine alone.
"""

import http.client
import ipaddress
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

PATHS = (
    "/",
    "/index.html",
    "/favicon.ico",
    "/re_viewer.js",
    "/re_viewer_bg.wasm",
    "/sw.js",
)
HEADERS = ("Content-Type", "rerun-final-length")
ANSWER_S = 60.0
_CHUNK_BYTES = 1 << 16
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; connect-src 'self' {data}; base-uri 'none'; form-action 'none'"
)


class PageServer:
    """Serves the page at ``address`` on threads of its own; ``source`` is where Rerun serves it.

    ``data_port`` is that of the data, on the same machine.
    """

    def __init__(self, address: tuple[str, int], source: tuple[str, int], data_port: int):
        handler = type("PageHandler", (_Handler,), {"source": source, "data_port": data_port})
        self._server = ThreadingHTTPServer(address, handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()
        host, port = address
        if ipaddress.IPv4Address(host).is_unspecified:
            host = socket.gethostname()
        self.url = f"http://{host}:{port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    source: tuple[str, int]
    data_port: int
    timeout = ANSWER_S  # of a browser that says nothing

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if address.path not in PATHS or not _HOST.fullmatch(host):
            self.send_error(http.client.NOT_FOUND)
            return
        data = f"http://{host}:{self.data_port}"
        if address.path == "/" and not address.query:
            # The page takes the place of the data from its own address.
            self.send_response(http.client.FOUND)
            self.send_header("Location", f"/?url={quote(f'rerun+{data}/proxy', safe='')}")
            self.end_headers()
            return
        self._pass_on(address.path, data)

    def _pass_on(self, path: str, data: str) -> None:
        connection = http.client.HTTPConnection(*self.source, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name in HEADERS:
                if value := answer.headers.get(name):
                    self.send_header(name, value)
            self.send_header("Content-Security-Policy", _POLICY.format(data=data))
            self.send_header("Cache-Control", "no-cache")
            self.end_headers()
            while chunk := answer.read(_CHUNK_BYTES):
                self.wfile.write(chunk)
        except OSError:
            self.close_connection = True  # the browser has left, or the viewer has ended
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is for the node."""
