"""Object storage that fails: a fault that passes is repaired, one that stays is one clear line."""

import gc
import urllib.request

import pytest

from test.s3_server import Fault, environment, faulty_proxy, make_bucket, s3_server
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage import settings
from vit_perception.files.storage.folder import StorageError
from vit_perception.files.storage.urls import folder_of

CONTENT = bytes(range(256)) * (12 << 12)  # 12 MiB: a multipart upload, two blocks of a download


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        make_bucket(url, "lab")
        with faulty_proxy(url) as (proxy, faults):
            yield proxy, faults


@pytest.fixture
def faults(server, monkeypatch):
    url, faults = server
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)
    faults.planned = []
    faults.happened = {}
    faults.refuses_unsigned = False
    return faults


@pytest.fixture
def folder(faults, tmp_path):
    return folder_of(f"s3://lab/{tmp_path.name}")


@pytest.mark.parametrize("kind", ["error", "cut", "slow"])
@pytest.mark.parametrize("size", ["small", "multipart"])
def test_a_fault_that_passes_costs_nothing(folder, faults, tmp_path, kind, size):
    content = CONTENT if size == "multipart" else CONTENT[: 1 << 20]
    made = tmp_path / "made"
    made.write_bytes(content)
    faults.planned = [Fault("PUT", kind, 2), Fault("GET", kind, 2), Fault("HEAD", kind, 1)]
    folder.commit(made, "a")
    folder.fetch("a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert folder.read("a", len(content)) == content
    assert faults.happened[kind] >= 4


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "uploads"), ("PUT", "partNumber=1"), ("PUT", "partNumber=2")],
)
@pytest.mark.parametrize("kind", ["cut", "error"])
def test_an_upload_that_fails_at_any_step_leaves_what_was_there(
    folder, faults, tmp_path, monkeypatch, method, path, kind
):
    """pyarrow could also complete it without the failed part, when its stream is freed."""
    monkeypatch.setattr(settings, "ATTEMPTS", 2)
    folder.commit_bytes(b"old", "a")
    made = tmp_path / "made"
    made.write_bytes(CONTENT)
    folder = folder_of(folder.url)
    # The storage works again at once.
    faults.planned = [Fault(method, kind, 2, path)]
    what = "the connection failed" if kind == "cut" else "the storage has an internal error"
    with pytest.raises(StorageError, match=rf"(?s)/a: {what} \(.*\nhint: .*run the same command"):
        folder.commit(made, "a")
    assert faults.happened == {kind: 2}
    gc.collect()
    assert made.read_bytes() == CONTENT
    assert folder.read("a", 3) == b"old"
    folder.commit(made, "a")
    assert folder.read("a", len(CONTENT)) == CONTENT


def test_a_download_that_stays_cut_leaves_no_file(folder, faults, tmp_path):
    folder.commit_bytes(CONTENT, "a")
    faults.planned = [Fault("GET", "cut", 1000)]
    with pytest.raises(StorageError, match=r"/a: the connection failed"):
        folder.fetch("a", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_errors_that_stay_are_tried_a_bounded_number_of_times(folder, faults, method):
    folder.commit_bytes(b"abc", "a")
    faults.planned = [Fault(method, "error", 1000)]
    with pytest.raises(StorageError, match=r"(?s)internal error \(.*hint: run the same command"):
        folder.commit_bytes(b"", "a") if method == "PUT" else folder.read("a", 3)
    assert faults.happened == {"error": settings.ATTEMPTS}


def test_a_bucket_that_is_not_there(faults):
    for act in (
        lambda folder: folder.files(),
        lambda folder: folder.commit_bytes(b"abc", "a"),
    ):
        with pytest.raises(StorageError, match=r"s3://nob.*there is no such bucket"):
            act(folder_of("s3://nob/x"))


@pytest.fixture
def locked(server):
    """The server checks credentials, and knows none."""
    _ask_for_credentials(server[0], after_requests="0")
    yield
    _ask_for_credentials(server[0], after_requests="inf")


def _ask_for_credentials(url, after_requests):
    request = urllib.request.Request(
        f"{url}/moto-api/reset-auth", after_requests.encode(), {"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_without_credentials(faults, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    faults.refuses_unsigned = True
    every_request_is_refused()


def test_wrong_credentials(faults, locked):
    every_request_is_refused()


def every_request_is_refused():
    said = r"(access is refused|credentials are not accepted) \(.*hint: set AWS_ACCESS_KEY_ID"
    for act in (
        lambda folder: folder.files(),
        lambda folder: folder.find("a"),
        lambda folder: folder.read("a", 3),
        lambda folder: folder.commit_bytes(b"abc", "a"),
    ):
        with pytest.raises(StorageError, match=f"(?s){said}"):
            act(folder_of("s3://lab/x"))


def test_nobody_listens(faults, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"(?s)connection failed \(.*hint: check AWS_ENDPOINT"):
        folder_of("s3://lab/x").find("a")


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "ftp://host", "http://host:port", "http://"])
def test_an_endpoint_that_is_no_url(faults, monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(InvalidValue, match=r"AWS_ENDPOINT_URL_S3 is .*accepted: http://HOST:PORT"):
        folder_of("s3://lab/x").find("a")
