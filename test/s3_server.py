"""A real S3 server as a process, and a proxy before it that disturbs requests.

The server is moto's. It checks no credentials, except that a request without any is refused.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
