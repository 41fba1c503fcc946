"""What an index is made with, where it lies, and what is said if LanceDB is missing or fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.engines.cache.store import digest_of
from vit_perception.files.errors import OperationFailed, UserError
from vit_perception.files.private_cache import cache_root


@dataclass(frozen=True)
class IndexParameters:
    """How the index is built and asked: inverted lists of vectors in eight bits a number, then the
    best candidates again by their float16 vectors.

    Codes of fewer bytes (IVF_PQ) would make the file smaller. With LanceDB's own settings 100,000
    vectors of 384 numbers were not trained in 40 s of processor time; these take 1.5 s.
    """

    # Vectors of one list, on average.
    list_vectors: int = 4096
    # Vectors of each list that its centre is learnt from, and how many rounds.
    sampled: int = 64
    rounds: int = 20
    # Lists that a query looks into, and of how many candidates each result is the best.
    probes: int = 10
    refine: int = 3

    def lists(self, vectors: int) -> int:
        """Return the number of lists of an index of ``vectors``."""
        return max(1, vectors // self.list_vectors)


PARAMETERS = IndexParameters()


def lancedb() -> Any:
    """Import LanceDB.

    Raises:
        OperationFailed: It is not installed.
    """
    try:
        import lancedb as package
    except ImportError as error:
        raise OperationFailed(
            "an index of many frames needs the package lancedb: pip install 'lancedb>=0.40'",
            hint_argument="method",
            hint=" exact reads every vector and needs no package",
        ) from error
    return package


def default_folder(features: FeatureSet, space: str) -> Path:
    """Return the folder of the index of ``features`` in the user's cache."""
    return cache_root() / "search" / digest_of(index_key(features, space))


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Say which index it is that LanceDB cannot use: its errors are of many kinds."""
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise OperationFailed(
            f"the index in {folder} cannot be used ({said:.300}); accepted: another folder, or "
            "this one removed: it is then built anew"
        ) from error


def index_key(features: FeatureSet, space: str) -> dict[str, Any]:
    """Return what tells an index from others."""
    return {
        "folders": [str(files.folder.resolve()) for files in features.folders],
        "encoder": features.encoder,
        "encoder_sha256": features.encoder_sha256,
        "space": space,
    }
