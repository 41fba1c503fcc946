"""pyarrow's file system of a scheme, with the settings of the standard environment variables.

S3 takes its credentials from pyarrow's chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the
files in ~/.aws with AWS_PROFILE, and the role of a machine on EC2. AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL name another server than Amazon's, AWS_REGION or AWS_DEFAULT_REGION the region.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.faults import told_as

# Of one request, first one included: with pyarrow's growing pauses about 5 s in all, if the storage
# answers at once.
ATTEMPTS = 5
CONNECT_TIMEOUT_S = 5.0
# Without a byte from the storage.
REQUEST_TIMEOUT_S = 30.0


def endpoint() -> tuple[str, str]:
    """Return scheme and ``host:port`` of the S3 server that the environment names.

    Both are empty for Amazon's own.

    Raises:
        InvalidValue: It is not a URL.
    """
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if text := os.environ.get(variable, ""):
            parts = urlsplit(text)
            try:
                port = parts.port
            except ValueError:
                port = -1
            if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
                raise InvalidValue(
                    f"{variable} is {text!r}; accepted: http://HOST:PORT or https://HOST"
                )
            return parts.scheme, parts.netloc.rpartition("@")[2]
    return "", ""


def _s3() -> Any:
    from pyarrow import fs

    scheme, host = endpoint()
    settings: dict[str, Any] = {"scheme": scheme, "endpoint_override": host} if host else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        settings["region"] = region
    elif host:
        settings["region"] = "us-east-1"  # other servers take any; nothing has to be looked up
    return fs.S3FileSystem(
        # With either of these the other way round, a stream whose write has failed completes the
        # upload of a part when it is freed (pyarrow 26). So a failure is told by `close` alone.
        allow_delayed_open=False,
        background_writes=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        **settings,
    )


def _of_uri(uri: str) -> Callable[[], Any]:
    def opened() -> Any:
        from pyarrow import fs

        return fs.FileSystem.from_uri(uri)[0]

    return opened


# The tests run s3 alone. The others are pyarrow's own, with the settings of their environment.
SCHEMES: dict[str, Callable[[], Any]] = {
    "s3": _s3,
    "gs": _of_uri("gs://bucket"),
    "abfs": _of_uri("abfs://container"),
}


def file_system(scheme: str) -> Any:
    """Return pyarrow's file system of ``scheme``.

    Raises:
        InvalidValue: pyarrow is not installed, or a setting of the environment is not accepted.
        StorageError: The file system cannot be opened.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidValue(
            f"{scheme}:// needs the Python package pyarrow, which is not installed; accepted "
            "without it: local folders",
            hint="pip install pyarrow",
        )
    with told_as(f"{scheme}://"):
        return SCHEMES[scheme]()
