"""How two keys of the cache differ, for people: which part of an engine's key does not fit."""

from collections.abc import Mapping

from vit_perception.files.errors import printable, shown

_MOST_NAMED = 8
_MISSING = "missing"


def differing_parts(ours: Mapping, theirs: Mapping) -> tuple[str, ...]:
    """Return the names of the parts in which two keys differ, such as ``("batch", "gpu.name")``.

    As in JSON, a list equals a tuple of the same values. The order is that of our key.
    """
    names = []
    for name in dict.fromkeys((*ours, *theirs)):
        here = ours.get(name, _MISSING)
        there = theirs.get(name, _MISSING)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += [f"{name}.{inner}" for inner in differing_parts(here, there)]
        elif _plain(here) != _plain(there):
            names.append(str(name))
    return tuple(names)


def difference_text(ours: Mapping, theirs: Mapping) -> str:
    """Say what both keys have in each part that differs; "" if the keys are equal.

    ``theirs`` may come from a stranger, so the text has a bounded length.
    """
    names = differing_parts(ours, theirs)
    texts = [
        f"{printable(name, 80, keep='')} is {_value(theirs, name)}, here {_value(ours, name)}"
        for name in names[:_MOST_NAMED]
    ]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return "; ".join(texts + more)


def _plain(value: object) -> object:
    """Return ``value`` with lists instead of tuples, at every depth."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _value(key: Mapping, name: str) -> str:
    """Return the part of ``key`` with the dotted ``name``, as a short text."""
    found: object = key
    for step in name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return _MISSING
        found = found[step]
    return shown(_plain(found), 80)
