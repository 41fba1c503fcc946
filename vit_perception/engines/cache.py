"""A cache of exported and compiled files that survives crashes, full disks and two builders at once.

An entry is a folder named by the digest of its key. It holds what the builder wrote, ``key.json`` (for
people) and ``sha256.json`` (name -> digest of every other file). It is filled under another name, synced and
renamed in one step, so an entry is complete or absent; a folder rather than a file, because an ONNX model
above 2 GB is two files (protobuf's limit) that have to appear together.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vit_perception.durable import file_sha256, sync
from vit_perception.engines.engine import EngineError

_CHECKSUMS = "sha256.json"
_DIGEST_BYTES = hashlib.sha256().digest_size


class CacheError(EngineError):
    """The cache folder cannot be used; the message names it and the cause."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/vit_perception/engines``, or the same below ``~/.cache`` (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit_perception" / "engines"


def digest_of(key: dict) -> str:
    """The entry's name for ``key``, a dictionary that JSON can write; its order does not matter."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached(key: dict, build: Callable[[Path], None], log: Callable[[str], None], folder: Path | None = None) -> Path:
    """The entry's folder for ``key``; ``build`` fills it (it is given an empty folder) when it is not there.

    Whoever comes second while one process builds waits and uses its result. A damaged entry is reported
    through ``log`` and built again.
    Raises CacheError when the folder cannot be written (permissions, a full disk); what ``build`` raises
    otherwise passes through, and leaves nothing behind.
    """
    folder = folder or cache_folder()
    entry = folder / digest_of(key)
    # Without the lock first: a complete entry never changes, and a cache baked into a read-only image works.
    if entry.is_dir() and not _damage(entry, key):
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(entry.with_suffix(".lock"), log):
            _build_if_needed(entry, key, build, log)
    except OSError as error:
        raise CacheError(f"cannot write the engine cache {folder}: {error}; make room or point XDG_CACHE_HOME "
                         "to a writable folder") from error
    return entry


def discard(key: dict, why: str, log: Callable[[str], None], folder: Path | None = None) -> None:
    """Remove the entry for ``key``: complete, but of no use to the runtime that asks (``why`` goes to ``log``).

    Raises CacheError when the folder cannot be written.
    """
    folder = folder or cache_folder()
    entry = folder / digest_of(key)
    log(f"WARNING: {entry} cannot be used ({why}); building it again")
    try:
        with _locked(entry.with_suffix(".lock"), log):
            if entry.is_dir():
                shutil.rmtree(entry)
    except OSError as error:
        raise CacheError(f"cannot remove {entry} from the engine cache: {error}") from error


def read_checked(path: Path, log: Callable[[str], None]) -> bytes:
    """The content that :func:`write_checked` wrote, ``b""`` when it is not there or (said in ``log``) is damaged."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        log(f"WARNING: {path} cannot be read ({error}); going on without it")
        return b""
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        log(f"WARNING: {path} is damaged; going on without it")
        return b""
    return content


def write_checked(path: Path, content: bytes, log: Callable[[str], None]) -> None:
    """Replace ``path`` in one step by ``content`` behind its digest. What speeds a start up may fail: ``log`` hears."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(hashlib.sha256(content).digest() + content)
        sync(unfinished)
        unfinished.rename(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        log(f"WARNING: {path} cannot be written ({error}); the next start takes as long as this one")


def _build_if_needed(entry: Path, key: dict, build: Callable[[Path], None], log: Callable[[str], None]) -> None:
    """The part under the lock."""
    if entry.is_dir():
        damage = _damage(entry, key)
        if not damage:
            return
        log(f"WARNING: {entry} is damaged ({damage}); building it again")
        shutil.rmtree(entry)
    # The lock is ours, so unfinished folders of this entry were left by builders that died.
    unfinished = entry.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        build(unfinished)
        (unfinished / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True))
        checksums = {path.name: file_sha256(path) for path in sorted(unfinished.iterdir())}
        (unfinished / _CHECKSUMS).write_text(json.dumps(checksums, indent=1))
        for path in (*unfinished.iterdir(), unfinished):
            sync(path)
        unfinished.rename(entry)
        sync(entry.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _damage(entry: Path, key: dict) -> str:
    """What is wrong with an entry, or '' when it is ``key``'s and every file has the digest it was built with."""
    try:
        checksums = json.loads((entry / _CHECKSUMS).read_text())
        unlisted = {path.name for path in entry.iterdir()} - {*checksums, _CHECKSUMS}
        if unlisted or "key.json" not in checksums:
            return f"{_CHECKSUMS} does not list {', '.join(sorted(unlisted or {'key.json'}))}"
        if json.loads((entry / "key.json").read_text()) != json.loads(json.dumps(key)):
            return "key.json is another entry's"
        for name, digest in checksums.items():
            if file_sha256(entry / name) != digest:
                return f"{name} does not have its checksum"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return ""


@contextmanager
def _locked(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold an exclusive lock; the kernel releases it when the process dies, however it dies."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process is building {path.stem}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
