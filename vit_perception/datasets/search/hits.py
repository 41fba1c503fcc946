"""What a search finds, and the rule that spreads it over episodes."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue


@dataclass(frozen=True)
class Hit:
    """A frame that was found."""

    # Of the features, from 0.
    frame: int
    # The camera whose picture is the nearest.
    camera: str
    # 1 − cosine similarity to the query: 0 is the same direction, 1 is at a right angle.
    distance: float
    # Number of the nearest query, from 0.
    query: int
    # The nearest patch, row by row from 0; None for a search of frames.
    patch: int | None = None


@dataclass(frozen=True)
class SpreadRule:
    """How results are spread: in order of distance, a frame is passed over if

    * a result of its episode lies less than ``apart_s`` from it, or
    * its episode has ``per_episode`` results already (0: no limit), or
    * it lies less than ``apart_s`` from a query that is a frame of the same episode.

    Raises:
        InvalidValue: A number is not accepted.
    """

    # In s.
    apart_s: float = 2.0
    per_episode: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.apart_s <= 86400:
            raise InvalidValue(f" is {self.apart_s}; accepted: 0 to 86400 s", argument="apart_s")
        if self.per_episode < 0:
            raise InvalidValue(
                f" is {self.per_episode}; accepted: 0 (no limit) or more", argument="per_episode"
            )

    def __str__(self) -> str:
        most = f", at most {self.per_episode} of an episode" if self.per_episode else ""
        return f"results of one episode are at least {self.apart_s:g} s apart{most}"


def spread(
    hits: Iterable[Hit],
    count: int,
    *,
    episode: np.ndarray,
    stamp_ns: np.ndarray,
    rule: SpreadRule,
    queries: Iterable[int] = (),
) -> list[Hit]:
    """Return the first ``count`` of ``hits``, nearest first, that ``rule`` lets pass.

    ``episode`` and ``stamp_ns`` are of all frames; ``queries`` are the frames that were asked with.
    """
    taken: dict[int, list[int]] = defaultdict(list)
    asked: dict[int, list[int]] = defaultdict(list)
    for frame in queries:
        asked[int(episode[frame])].append(int(stamp_ns[frame]))
    # A query itself is no result, also where nothing has to be apart.
    apart_ns = max(1, round(rule.apart_s * 1e9))
    found: list[Hit] = []
    for hit in hits:
        if len(found) == count:
            break
        own = int(episode[hit.frame])
        now_ns = int(stamp_ns[hit.frame])
        if rule.per_episode and len(taken[own]) >= rule.per_episode:
            continue
        if any(abs(now_ns - other) < apart_ns for other in (*taken[own], *asked[own])):
            continue
        taken[own].append(now_ns)
        found.append(hit)
    return found
