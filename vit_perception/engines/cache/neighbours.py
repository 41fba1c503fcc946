"""Why no entry of the cache fits: what is another in its key than in that of the nearest entry
there.

An engine that was there yesterday and is built for minutes today has to be explained. What lies in
the cache is read within bounds, and by the cache's rules of trust; whatever cannot be read explains
nothing, and harms nothing.
"""

import json
import os
from itertools import islice
from pathlib import Path

from vit_perception.engines.cache.key_difference import difference_text, differing_parts
from vit_perception.files.private_cache import Untrusted, opened_file, opened_folder

_MOST_ENTRIES = 500
_MOST_BYTES = 1 << 16
# Several engines of an encoder lie side by side for these: no change that wants an explanation.
_ASKED = ("kind", "weights_sha256", "config", "precision", "attention")


def what_changed(key: dict, folder: Path) -> str:
    """A sentence that names what is another in ``key`` than in the nearest entry of ``folder`` for
    the same encoder.

    Entries of another kind, encoder, precision or form of attention do not count. ``""`` where
    there is none.
    """
    nearest: tuple[int, str, str] | None = None
    for entry in _entries(folder):
        try:
            other = _key_of(folder / entry)
            parts = differing_parts(key, other)
            if not parts or any(part.split(".")[0] in _ASKED for part in parts):
                continue
            if nearest is None or (len(parts), entry) < nearest[:2]:
                nearest = len(parts), entry, difference_text(key, other)
        except RecursionError:  # lists in lists: no key of ours
            continue
    if nearest is None:
        return ""
    _, entry, text = nearest
    return f"no engine in {folder} fits; the nearest of the same encoder is {entry}, where {text}"


def _entries(folder: Path) -> list[str]:
    """The names of some entries of the cache."""
    try:
        with os.scandir(folder) as found:
            return [
                item.name
                for item in islice(found, 4 * _MOST_ENTRIES)
                if item.is_dir(follow_symlinks=False) and "." not in item.name
            ][:_MOST_ENTRIES]
    except OSError:
        return []


def _key_of(entry: Path) -> dict:
    """The key that an entry was built for; empty where it cannot be read or trusted."""
    try:
        with opened_folder(entry) as folder, opened_file("key.json", folder, entry) as file:
            content = file.read(_MOST_BYTES + 1)
        key = json.loads(content) if len(content) <= _MOST_BYTES else {}
    except (Untrusted, OSError, ValueError):
        return {}
    return key if isinstance(key, dict) else {}
