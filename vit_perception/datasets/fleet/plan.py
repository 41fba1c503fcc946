"""What a fleet run is about: its sources, what they hold, and what every worker must know."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_perception.files.errors import UserError
from vit_perception.recordings.kind import BagError

if TYPE_CHECKING:
    from vit_perception.config.settings import EncoderSettings
    from vit_perception.datasets.embed_options import EmbedOptions
    from vit_perception.datasets.embed_sources import Source, SourceResult
    from vit_perception.pipeline.pipeline import Pipeline

# Opening bags waits for storage: several are opened at once.
SURVEYORS = 8


@dataclass(frozen=True)
class Surveyed:
    """What one source holds, by its own metadata."""

    number: int
    name: str
    # As ``Source.identity``, and about how many results it gives.
    identity: dict[str, Any]
    frames: int
    # Why it cannot be read; empty if it can.
    why_not: str = ""


class UnreadableSource:
    """A source that cannot be opened: it keeps its number, and its task fails with the reason."""

    def __init__(self, path: Path, why: str):
        self.path = path
        self.why = why

    def identity(self) -> dict[str, Any]:
        return {"kind": "unreadable", "name": self.path.name}

    def total(self) -> int:
        return 0

    def results(self, pipeline: "Pipeline", first: int) -> Iterator["SourceResult"]:
        raise BagError(self.why)


def survey(sources: Sequence["Source"], names: Sequence[str]) -> list[Surveyed]:
    """Open every source once, for its identity and the number of its frames."""
    with ThreadPoolExecutor(SURVEYORS) as pool:
        return list(pool.map(_surveyed, range(len(sources)), sources, names))


def _surveyed(number: int, source: "Source", name: str) -> Surveyed:
    try:
        identity = json.loads(json.dumps(source.identity()))
        why_not = source.why if isinstance(source, UnreadableSource) else ""
        return Surveyed(number, name, identity, source.total(), why_not)
    except (UserError, OSError) as error:
        return Surveyed(number, name, {"kind": "unreadable", "name": name}, 0, str(error))


@dataclass(frozen=True)
class Job:
    """What every worker needs to know of a run. It is sent once to each."""

    settings: "EncoderSettings"
    options: "EmbedOptions"
    sources: tuple["Source", ...]
    identities: tuple[dict[str, Any], ...]
    # The folder of the output, which all machines must see under this path.
    out: Path
    # CPU threads of an engine where the settings name none.
    threads: int

    @property
    def staging(self) -> Path:
        """The folder in which every task has one of its own."""
        return self.out / STAGING


STAGING = ".fleet"
# In it; its text is the digest of the run.
TOKEN = "run"


@dataclass(frozen=True)
class Begin:
    """What workers learn when the run is known."""

    # Digest of everything that the features depend on.
    run_sha256: str
