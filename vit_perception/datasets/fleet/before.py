"""What the features of one source take over from the sources before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.datasets.accounts import Entry


@dataclass(frozen=True)
class Before:
    """What the features of a source take over from the sources before it."""

    # The number of the latest episode; -1 before the first source.
    episode: int = -1
    # As ``LayoutTracker.seen``, and every layout so far, in the order of their numbers.
    seen: dict[str, list] = field(default_factory=dict)
    layouts: tuple[dict[str, Any], ...] = ()
    # Shards so far, for formats whose files hold their own name; else 0.
    files: int = 0
    # Of the source itself: results that are done, and the stamp of the latest of them.
    first: int = 0
    last_stamp_ns: int = 0
    # What the accuracy check measured of the first worker's engine, for new layouts; None for what
    # it measured here. Files must not depend on who made them.
    min_cosine: float | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], source: int) -> "Before":
        """Return what the next shard of ``source`` takes over from all earlier ``entries``."""
        last = entries[-1] if entries else Entry(source=-1, first=0, next=0)
        begun = last.source == source
        return cls(
            episode=last.episode,
            seen=last.seen,
            layouts=tuple(layout for entry in entries for layout in entry.layouts),
            first=last.next if begun else 0,
            last_stamp_ns=last.last_stamp_ns if begun else 0,
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Before":
        """Return it as it was before ``dataclasses.asdict`` and JSON."""
        return cls(**{**fields, "layouts": tuple(fields["layouts"])})

    @property
    def layout_ids(self) -> list[str]:
        """The layouts so far, by their number."""
        return [layout["layout_id"] for layout in self.layouts]

    def gives_the_same(self, other: "Before") -> bool:
        """Whether a source has the same shards after ``other``."""
        return self.layout_ids == other.layout_ids and all(
            getattr(self, name) == getattr(other, name)
            for name in ("episode", "seen", "files", "first", "last_stamp_ns")
        )


FIRST = Before()
