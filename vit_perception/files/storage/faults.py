"""What object storage answers when it fails, as one line for the user.

pyarrow reports a fault as an OSError whose text holds ``AWS Error CODE during OPERATION operation:
what was said``. It has then tried as often as its settings say.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from vit_perception.files.errors import printable
from vit_perception.files.storage.folder import StorageError

_AWS = re.compile(r"AWS Error (\w+(?: \([^)]*\))?) during (\w+) operation:\s*(.*)", re.DOTALL)
_REQUEST_ID = re.compile(r"\s*\(Request ID: [^)]*\)")
MOST_SAID = 300
CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE, of "
    "an account that may do this"
)


class _Fault(NamedTuple):
    """A kind of fault."""

    pattern: str  # in the code or in what was said
    is_what: str
    remedy: str


# The first one that fits.
_FAULTS = (
    _Fault("NO_SUCH_BUCKET|NoSuchBucket", "there is no such bucket", "a bucket that exists"),
    _Fault(
        "INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch"
        "|MISSING_AUTHENTICATION_TOKEN|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT|ExpiredToken"
        "|InvalidToken",
        "the credentials are not accepted",
        CREDENTIALS,
    ),
    _Fault("ACCESS_DENIED|AccessDenied|HTTP.* 403", "access is refused", CREDENTIALS),
    _Fault(
        "HTTP.* 301|PermanentRedirect|AuthorizationHeaderMalformed",
        "the bucket is in another region",
        "set AWS_REGION to the bucket's region",
    ),
    _Fault(
        "NETWORK_CONNECTION|curlCode",
        "the connection failed",
        "check AWS_ENDPOINT_URL and the network, and run the same command again",
    ),
    _Fault(
        "SLOW_DOWN|THROTTLING|REQUEST_LIMIT|SlowDown",
        "the storage asks for fewer requests",
        "run the same command again later",
    ),
    _Fault(
        "INTERNAL_FAILURE|SERVICE_UNAVAILABLE|InternalError|HTTP.* 5\\d\\d",
        "the storage has an internal error",
        "run the same command again later",
    ),
)


def storage_error(error: OSError, url: str) -> StorageError:
    """Return the fault ``error`` of the object ``url`` with what was said and what to do."""
    text = str(error)
    code, operation, said = "", "", text
    if found := _AWS.search(text):
        code, operation, said = found.groups()
    said = " ".join(_REQUEST_ID.sub("", said).split())
    kind = next(
        (fault for fault in _FAULTS if re.search(fault.pattern, f"{code} {said}")),
        _Fault("", "the storage failed", "run the same command again"),
    )
    asked = f" ({operation}: {code}, {said})" if code else f" ({said})"
    return StorageError(
        printable(f"{url}: {kind.is_what}{asked}", most=len(url) + MOST_SAID), hint=kind.remedy
    )


@contextmanager
def told_as(url: str) -> Iterator[None]:
    """Turn faults of object storage in the block into a StorageError that names ``url``.

    A FileNotFoundError stays one.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {url}") from error
    except OSError as error:
        raise storage_error(error, url) from error
