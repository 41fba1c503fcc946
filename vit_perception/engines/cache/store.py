"""A cache of exported and compiled files that survives crashes, full disks and parallel builders.

An entry is a folder named by the digest of its key. It holds what the builder wrote, ``key.json``
(for people) and ``sha256.json`` (name -> digest of every other file). It is filled under another
name, synced and renamed in one step, so an entry is complete or absent. It is a folder because an
ONNX model above 2 GB is two files (protobuf's limit), which have to appear together.

The digests find damage, not attackers. :mod:`vit_perception.files.private_cache` checks who may
write here, before anything is read.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from vit_perception.engines.engine import EngineError
from vit_perception.files.atomic import open_plain, put_in_place, sha256_of, sync, write_whole
from vit_perception.files.locks import locked
from vit_perception.files.log import Log
from vit_perception.files.private_cache import (
    FILE_MODE,
    Untrusted,
    cache_root,
    check_files,
    make_folder,
    opened_file,
    opened_folder,
)

_CHECKSUMS = "sha256.json"
_DIGEST_BYTES = hashlib.sha256().digest_size


class Cached(NamedTuple):
    """A folder or file of the cache."""

    path: Path
    was_cached: bool  # it was there, or another process built it meanwhile


class CacheError(EngineError):
    """The cache folder cannot be used. The message has the folder, the cause and a remedy."""


def cache_folder() -> Path:
    """The folder ``engines`` of the user's cache."""
    return cache_root() / "engines"


def digest_of(key: dict) -> str:
    """Return the entry's name for ``key``, a dictionary for JSON. Its order does not matter."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached(
    key: dict, build: Callable[[Path], None], log: Log, folder: Path | None = None
) -> Cached:
    """Return the entry's folder for ``key``. If it is missing, ``build`` fills an empty folder.

    While one process builds an entry, others wait and use its result. A damaged entry is reported
    to ``log`` and built again. Other errors of ``build`` pass through, and leave nothing behind.

    Raises:
        CacheError: The folder cannot be written (permissions, a full disk), or somebody else may
            have written what is there. Then it stays as it is.
    """
    folder = folder or cache_folder()
    entry = folder / digest_of(key)
    try:
        # First without the lock: a complete entry never changes, and a cache may be read-only.
        if present(key, folder):
            return Cached(entry, was_cached=True)
        make_folder(folder)
        with _locked(entry, log):
            was_cached = not _build_if_needed(entry, key, build, log)
    except Untrusted as error:
        raise CacheError(f"the engine cache is not used: {error}") from error
    except OSError as error:
        raise CacheError(
            f"cannot write the engine cache {folder}: {error}; make room or point XDG_CACHE_HOME "
            "to a writable folder"
        ) from error
    return Cached(entry, was_cached)


def present(key: dict, folder: Path | None = None) -> Path | None:
    """Return the entry's folder for ``key`` if it is there and complete, else None.

    It waits for no other process and builds nothing.

    Raises:
        Untrusted: Somebody else may have written what is there.
    """
    entry = (folder or cache_folder()) / digest_of(key)
    return entry if os.path.lexists(entry) and not _damage(entry, key) else None


def discard(entry: Path, why: str, log: Log) -> None:
    """Remove a complete entry that the runtime cannot use, and report ``why`` to ``log``.

    Raises:
        CacheError: The folder cannot be written.
    """
    log.warning(f"{entry} cannot be used ({why}); building it again")
    try:
        make_folder(entry.parent)
        with _locked(entry, log):
            if entry.is_dir():
                shutil.rmtree(entry)
    except (Untrusted, OSError) as error:
        raise CacheError(f"cannot remove {entry} from the engine cache: {error}") from error


def read_checked(path: Path, log: Log) -> bytes:
    """Return the content that :func:`write_checked` wrote; b"" if there is none.

    If it cannot be read or is damaged, ``log`` gets a warning.
    """
    try:
        with (
            opened_folder(path.parent) as folder,
            opened_file(path.name, folder, path.parent) as file,
        ):
            stored = file.read()
    except FileNotFoundError:
        return b""
    except (Untrusted, OSError) as error:
        log.warning(f"{path} cannot be read ({error}); going on without it")
        return b""
    digest = stored[:_DIGEST_BYTES]
    content = stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        log.warning(f"{path} is damaged; going on without it")
        return b""
    return content


def write_checked(path: Path, content: bytes, log: Log) -> None:
    """Replace ``path`` in one step by the digest of ``content`` and ``content``.

    The file only makes a start faster, so a failure is reported to ``log`` and is no error.
    """
    try:
        make_folder(path.parent)
        write_whole(
            path,
            lambda file: file.write_bytes(hashlib.sha256(content).digest() + content),
            FILE_MODE,
        )
    except (Untrusted, OSError) as error:
        log.warning(f"{path} cannot be written ({error}); the next start takes as long as this one")


def _locked(entry: Path, log: Log) -> AbstractContextManager[None]:
    return locked(
        entry.with_suffix(".lock"),
        lambda: log.info(f"another process is building {entry.name}; waiting for it"),
    )


def _build_if_needed(entry: Path, key: dict, build: Callable[[Path], None], log: Log) -> bool:
    """The part under the lock: build the entry if it is missing; whether that was so."""
    if entry.is_dir():
        damage = _damage(entry, key)
        if not damage:
            return False
        log.warning(f"{entry} is damaged ({damage}); building it again")
        shutil.rmtree(entry)
    # We hold the lock, so unfinished folders of this entry are from builders that died.
    for left in entry.parent.iterdir():
        if re.fullmatch(rf"{entry.name}(\.\w+)?\.unfinished", left.name):
            shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(
        tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".unfinished", dir=entry.parent)
    )  # mode 0700
    try:
        build(unfinished)
        (unfinished / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True))
        checksums = {path.name: _seal(path) for path in sorted(unfinished.iterdir())}
        (unfinished / _CHECKSUMS).write_text(json.dumps(checksums, indent=1))
        _seal(unfinished / _CHECKSUMS)
        sync(unfinished)
        put_in_place(unfinished, entry)
        return True
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _seal(path: Path) -> str:
    """Sync a finished file, for this user alone whatever the umask is; return its digest."""
    with open(open_plain(path), "rb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
        return sha256_of(file)


def _damage(entry: Path, key: dict) -> str:
    """Say what is wrong with an entry; "" if it is ``key``'s and every file has its digest.

    Raises:
        Untrusted: Somebody else may have written any of it.
    """
    try:
        with opened_folder(entry) as folder:
            names = check_files(folder, entry)

            def read(name: str) -> dict:
                with opened_file(name, folder, entry) as file:
                    return json.loads(file.read())

            checksums = read(_CHECKSUMS)
            unlisted = set(names) - {*checksums, _CHECKSUMS}
            if unlisted or "key.json" not in checksums:
                return f"{_CHECKSUMS} does not list {', '.join(sorted(unlisted or {'key.json'}))}"
            if read("key.json") != json.loads(json.dumps(key)):
                return "key.json is another entry's"
            for name, digest in checksums.items():
                with opened_file(name, folder, entry) as file:
                    if sha256_of(file) != digest:
                        return f"{name} does not have its checksum"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error)
    return ""
