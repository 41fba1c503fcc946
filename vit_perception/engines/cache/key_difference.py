"""In what two keys of the cache differ, for people: an engine that does not fit says which part of
its key is wrong.
"""

from collections.abc import Mapping

from vit_perception.files.errors import printable, shown

_MOST_NAMED = 8
_MISSING = "missing"


def differing_parts(ours: Mapping, theirs: Mapping) -> tuple[str, ...]:
    """The names of the parts in which two keys differ, those of nested parts with dots: ``("batch",
    "gpu.name")``.

    Keys are as JSON has them: lists and tuples of the same values are equal. Ours come first, in
    their order.
    """
    names = []
    for name in dict.fromkeys((*ours, *theirs)):
        here, there = ours.get(name, _MISSING), theirs.get(name, _MISSING)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += [f"{name}.{inner}" for inner in differing_parts(here, there)]
        elif _plain(here) != _plain(there):
            names.append(str(name))
    return tuple(names)


def difference_text(ours: Mapping, theirs: Mapping) -> str:
    """What ``theirs`` has in each part that differs, and what ``ours``; ``""`` where the keys are
    equal.

    ``theirs`` may be a stranger's: the text is of bounded length.
    """
    names = differing_parts(ours, theirs)
    texts = [
        f"{printable(name, 80, keep='')} is {_value(theirs, name)}, here {_value(ours, name)}"
        for name in names[:_MOST_NAMED]
    ]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return "; ".join(texts + more)


def _plain(value: object) -> object:
    """``value`` with lists for tuples, at every depth."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _value(key: Mapping, name: str) -> str:
    """The part of ``key`` that the dotted ``name`` names, in a few words."""
    found: object = key
    for step in name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return _MISSING
        found = found[step]
    return shown(_plain(found), 80)
