"""How far a fleet run is, for whoever shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """One look at a run."""

    # Results of all sources, those of earlier runs included; about how many there will be.
    results: int
    total: int
    # Workers with a source at hand, and all workers.
    busy: int
    workers: int
    sources_done: int
    sources: int
    # Why sources failed, by their number.
    failed: Mapping[int, str]


class Listener(Protocol):
    """Who watches a run. A method that raises ends it."""

    def progress(self, progress: Progress) -> None:
        """Take how far the run is, about once a second."""

    def info(self, text: str) -> None:
        """Take a sentence about what happens."""

    def warning(self, text: str) -> None:
        """Take a sentence about what went wrong and does not end the run."""
