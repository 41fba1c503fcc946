"""What the sources of a command mean: paths, folders of recordings, globs, lists, and URLs."""

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from vit_perception.config.checks import home_path
from vit_perception.datasets.lerobot.dataset import is_lerobot
from vit_perception.datasets.stored.stored_bag import StoredBag
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import read_text_bounded
from vit_perception.files.storage.folder import StorageFolder, StoredFile
from vit_perception.files.storage.urls import folder_of, is_url
from vit_perception.image.picture_files import pictures_below
from vit_perception.recordings.kind import (
    ACCEPTED,
    BAG_SUFFIXES,
    METADATA,
    check_no_loose_bag,
    is_bag,
)

MOST_SOURCES = 100_000
LIST_MARK = "@"
_MAGIC = "*?["


def given_sources(texts: Sequence[str | Path]) -> list[Path | StoredBag]:
    """Return every source that ``texts`` mean, in their order; those of one text by name.

    Raises:
        InvalidValue: There is nothing at a path or URL, a glob matches nothing, a list names what
            is not there, or a source is given twice. The message names it.
        StorageError: Object storage does not answer.
    """
    found: list[Path | StoredBag] = []
    seen: dict[str, str] = {}
    for text in texts:
        for source, given in _sources_of(text):
            place = source.url if isinstance(source, StoredBag) else os.path.realpath(source)
            if place in seen:
                raise InvalidValue(
                    f"{source} is given twice, by {shown(seen[place])} and by {shown(given)}; "
                    "accepted: each source once"
                )
            seen[place] = given
            found.append(source)
            if len(found) > MOST_SOURCES:
                raise InvalidValue(
                    f"{shown(given)}: more than {MOST_SOURCES} sources; accepted: fewer in one run"
                )
    return found


def _sources_of(text: str | Path) -> Iterator[tuple[Path | StoredBag, str]]:
    """Yield each source that ``text`` means, and what names it in messages."""
    if isinstance(text, str) and text.startswith(LIST_MARK) and not os.path.lexists(text):
        yield from _listed(text.removeprefix(LIST_MARK))
        return
    for source in _one(text):
        yield source, str(text)


def _listed(name: str) -> Iterator[tuple[Path | StoredBag, str]]:
    """Yield the sources of a list file: one a line, empty lines and those with ``#`` left out."""
    path = Path(home_path(name))
    if not path.exists():
        raise InvalidValue(
            f"there is no list {path}; accepted: @FILE, a text with one source a line"
        )
    for number, line in enumerate(read_text_bounded(path).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        if line.startswith(LIST_MARK):
            raise InvalidValue(f"{where}: {shown(line)} is a list; accepted: paths, globs and URLs")
        try:
            for source in _one(line if is_url(line) else home_path(line)):
                if isinstance(source, Path) and not source.exists():
                    raise InvalidValue(f"there is no {source}; accepted: a path, a glob or a URL")
                yield source, f"{where} ({line})"
        except InvalidValue as error:
            raise InvalidValue(f"{where}: {error}") from error


def _one(text: str | Path) -> list[Path | StoredBag]:
    if isinstance(text, str) and is_url(text) and not text.startswith("file://"):
        return list(_stored_bags(text))
    path = folder_of(text).path if isinstance(text, str) and is_url(text) else Path(text)
    if path.exists():
        return _in_folder(path)
    if any(mark in str(path) for mark in _MAGIC):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not matches:
            raise InvalidValue(f"{shown(str(path))} matches nothing; accepted: a glob that does")
        return [source for match in matches for source in _in_folder(match)]
    return [path]  # who reads it says what is accepted there


def _in_folder(path: Path) -> list[Path | StoredBag]:
    """Return the recordings in the folder ``path``, or itself if it is not a folder of them."""
    if not path.is_dir() or is_bag(path) or is_lerobot(path):
        return [path]
    bags = [] if _loose(os.listdir(path)) else list(_bags_below(path))
    return bags if bags and not pictures_below(path) else [path]


def _loose(names: Sequence[str]) -> bool:
    return any(name.endswith(BAG_SUFFIXES) for name in names)


def _bags_below(folder: Path) -> Iterator[Path]:
    for found, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        path = Path(found)
        if METADATA in names:
            folders.clear()
            yield path
        elif _loose(names):
            check_no_loose_bag(path)


def _stored_bags(url: str) -> Iterator[StoredBag]:
    """Yield the recordings at ``url``: one, those below a prefix, or those that a glob matches."""
    scheme, _, rest = url.partition("://")
    parts = rest.rstrip("/").split("/")
    plain = next((k for k, part in enumerate(parts) if any(m in part for m in _MAGIC)), len(parts))
    if not plain:
        raise InvalidValue(f"{shown(url)} has a glob for its bucket; accepted: one bucket")
    base = folder_of(f"{scheme}://{'/'.join(parts[:plain])}")
    pattern = parts[plain:]
    if not pattern and len(parts) > 1 and (one := _stored_file(url)):
        yield one
        return
    bags = list(_bags_in(base, base.files(), pattern))
    if not bags:
        what = "matches no recording" if pattern else "has no recording"
        raise InvalidValue(
            f"{shown(url)} {what}; accepted: the URL of {ACCEPTED}, a prefix that such folders are "
            "below, or a glob"
        )
    yield from bags


def _stored_file(url: str) -> StoredBag | None:
    """Return the one file at ``url`` as a recording; None if there is no such object."""
    where, _, name = url.rstrip("/").rpartition("/")
    folder = folder_of(where)
    file = folder.find(name)
    if file is None:
        return None
    if not name.endswith(BAG_SUFFIXES):
        raise InvalidValue(f"{shown(url)} is no recording; accepted: the URL of {ACCEPTED}")
    log = folder.find(f"{name}-wal") if name.endswith(".db3") else None
    return StoredBag(folder, (file, log) if log else (file,), is_folder=False)


def _bags_in(
    base: StorageFolder, files: Sequence[StoredFile], pattern: Sequence[str]
) -> Iterator[StoredBag]:
    """Yield the recordings among ``files`` of ``base`` whose first parts fit ``pattern``."""
    depth = len(pattern)
    rows = []
    for file in files:
        parts = file.name.split("/")
        if len(parts) >= depth and all(map(fnmatchcase, parts, pattern)):
            rows.append((parts[:-1], parts[-1], file.size_bytes))
    for parent, group in groupby(sorted(rows), key=lambda row: row[0]):
        inside = tuple(StoredFile(name, size_bytes) for _, name, size_bytes in group)
        folder = base.below("/".join(parent)) if parent else base
        loose = [file for file in inside if file.name.endswith(BAG_SUFFIXES)]
        if len(parent) < depth:  # the glob names files
            for file in loose:
                logs = tuple(log for log in inside if log.name == f"{file.name}-wal")
                yield StoredBag(folder, (file, *logs), is_folder=False)
        elif any(file.name == METADATA for file in inside):
            yield StoredBag(folder, inside, is_folder=True)
        elif loose:
            raise InvalidValue(
                f"{folder.url} is a bag without {METADATA}; accepted: the whole folder, or its "
                f"files by a glob: {folder.url}/*{Path(loose[0].name).suffix}"
            )
