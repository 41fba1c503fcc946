"""One search: queries, the exact scan or the index, and the rule that spreads the results."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vit_perception.datasets.search.exact import compared, exact_hits, region_hits
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit, SpreadRule, spread
from vit_perception.datasets.search.lance_index import LanceIndex, candidates
from vit_perception.datasets.search.lance_setup import default_folder
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT, Log

# Above this number of frames the index is asked.
EXACT_FRAMES = 100_000
METHODS = ("auto", "exact", "lancedb")


@dataclass(frozen=True, eq=False)
class Queries:
    """What is searched for."""

    # (Q, D) or (Q, E), of length 1.
    vectors: np.ndarray
    # What each of them is called; several may have one name.
    names: tuple[str, ...]
    # (E, D), takes stored vectors to the space of the queries; None if they are in it.
    projection: np.ndarray | None = None
    # The name of that space: each has an index of its own.
    space: str = "image"
    # The frames that were asked with, which are no results.
    frames: tuple[int, ...] = ()

    def check(self) -> None:
        """Check that there is something to search for.

        Raises:
            InvalidValue: A query is zeros: a missing camera, or a black token.
        """
        for vector, name in zip(self.vectors, self.names):
            if not vector.any():
                raise InvalidValue(f"the query {name} has no features; accepted: another frame")


@dataclass(frozen=True)
class Found:
    """The results of one search."""

    # Nearest first.
    hits: tuple[Hit, ...]
    # What ran, for people.
    how: str


def find(
    features: FeatureSet,
    queries: Queries,
    count: int,
    *,
    rule: SpreadRule,
    method: str = "auto",
    regions: bool = False,
    index_folder: Path | None = None,
    log: Log = SILENT,
    advance: Callable[[int], None] = lambda frames: None,
) -> Found:
    """Return the ``count`` nearest frames, or those with the nearest patches, that ``rule`` lets
    pass.

    Raises:
        InvalidValue: The method is none, the features lack what is compared, or ``count`` is not
            accepted.
        OperationFailed: LanceDB is needed and not installed.
    """
    if not 1 <= count <= 1000:
        raise InvalidValue(f" is {count}; accepted: 1 to 1000", argument="count")
    queries.check()
    chosen = method_of(len(features), method, regions)
    if chosen == "lancedb":
        return _indexed(features, queries, count, rule, index_folder, log, advance)
    if regions:
        ordered = region_hits(features, queries.vectors, advance)
    else:
        ordered = exact_hits(features, queries.vectors, queries.projection, advance)
    hits = _spread(features, ordered, count, rule, queries)
    what = "the patch tokens" if regions else "the CLS vectors"
    return Found(tuple(hits), f"exact scan of {what} of {len(features)} frames")


def method_of(frames: int, method: str, regions: bool) -> str:
    """Return the method that is used: patches are always compared exactly.

    Raises:
        InvalidValue: There is no such method, or the index is asked for regions.
    """
    if method not in METHODS:
        raise InvalidValue(f" is {method!r}; accepted: {', '.join(METHODS)}", argument="method")
    if regions and method == "lancedb":
        raise InvalidValue(
            " is lancedb with regions, which the index does not hold; accepted: auto or exact",
            argument="method",
        )
    if method == "auto":
        return "lancedb" if frames > EXACT_FRAMES and not regions else "exact"
    return method


def _indexed(
    features: FeatureSet,
    queries: Queries,
    count: int,
    rule: SpreadRule,
    folder: Path | None,
    log: Log,
    advance: Callable[[int], None],
) -> Found:
    index = LanceIndex(
        features,
        folder or default_folder(features, queries.space),
        space=queries.space,
        projection=queries.projection,
        log=log,
        advance=advance,
    )
    hits: list[Hit] = []
    for found in candidates(index, queries.vectors, count):
        hits = _spread(features, found, count, rule, queries)
        if len(hits) == count:
            break
    hits = sorted(
        (_exactly(features, hit, queries) for hit in hits), key=lambda h: (h.distance, h.frame)
    )
    how = f"LanceDB index of {index.vectors} CLS vectors of {len(features)} frames"
    return Found(tuple(hits), f"{how}, distances computed again from the features")


def _exactly(features: FeatureSet, hit: Hit, queries: Queries) -> Hit:
    """Return ``hit`` with the distance of its stored vector: the index has float16."""
    (vector,) = features.vectors(hit.frame, (hit.camera,))
    distances = compared(vector[None], queries.vectors, queries.projection)[0]
    best = int(distances.argmin())
    return replace(hit, distance=float(distances[best]), query=best)


def _spread(
    features: FeatureSet, hits: Iterable[Hit], count: int, rule: SpreadRule, queries: Queries
) -> list[Hit]:
    return spread(
        hits,
        count,
        episode=features.episode,
        stamp_ns=features.stamp_ns,
        rule=rule,
        queries=queries.frames,
    )


def mean_patch(patches: np.ndarray, chosen: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Return the mean of unit ``patches`` (P, D), or of those ``chosen``, with length 1."""
    taken = patches if chosen is None else patches[np.asarray(chosen)]
    mean = taken.mean(axis=0)
    length = np.linalg.norm(mean)
    return (mean / length if length > 0 else mean).astype(np.float32)
