"""Why no entry of the cache fits: how its key differs from that of the nearest entry.

If an engine was cached yesterday and is built for minutes today, the user should know why. Entries
are read within bounds and by the cache's rules of trust. One that cannot be read is left out.
"""

import json
import os
from itertools import islice
from pathlib import Path

from vit_perception.engines.cache.key_difference import difference_text, differing_parts
from vit_perception.files.private_cache import Untrusted, opened_file, opened_folder

_MOST_ENTRIES = 500
_MOST_BYTES = 1 << 16
# An encoder usually has several engines that differ in these. This needs no explanation.
_ASKED = ("kind", "weights_sha256", "config", "precision", "attention")


def what_changed(key: dict, folder: Path) -> str:
    """Say how ``key`` differs from the nearest entry of ``folder`` for the same encoder.

    Entries of another kind, encoder, precision or form of attention do not count. The text is "" if
    there is no entry.
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
        except RecursionError:  # deeply nested lists, so not a key of ours
            continue
    if nearest is None:
        return ""
    _, entry, text = nearest
    return f"no engine in {folder} fits; the nearest of the same encoder is {entry}, where {text}"


def _entries(folder: Path) -> list[str]:
    """Return the names of entries of the cache, at most ``_MOST_ENTRIES``."""
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
    """Return the key that an entry was built for; {} if it cannot be read or trusted."""
    try:
        with opened_folder(entry) as folder, opened_file("key.json", folder, entry) as file:
            content = file.read(_MOST_BYTES + 1)
        key = json.loads(content) if len(content) <= _MOST_BYTES else {}
    except (Untrusted, OSError, ValueError):
        return {}
    return key if isinstance(key, dict) else {}
