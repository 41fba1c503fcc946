"""Choose frames to label or to train on: groups of near-identical ones, and a diverse few.

Both compare frames by all searched cameras at once: the distance of two frames is that of the
camera in which they differ most. A camera that is missing in both frames does not count; one that
is missing in one of them makes them different.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vit_perception.datasets.search.exact import NOWHERE
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.files.errors import InvalidValue

# What the representatives of groups may take in memory.
MOST_KEPT_BYTES = 2 << 30
BLOCK_FRAMES = 2048
BLOCK_BYTES = 64 << 20  # of the distances that are computed at once


@dataclass(frozen=True, eq=False)
class Groups:
    """Frames in groups; each frame is in one."""

    # (frames,) int64: the frame that stands for the group of each frame; its own number if it does.
    leader: np.ndarray
    # (frames,) float32: the distance to it.
    distance: np.ndarray

    @property
    def leaders(self) -> np.ndarray:
        """The frames to keep, in order."""
        return np.flatnonzero(self.leader == np.arange(len(self.leader)))


def near_identical(
    features: FeatureSet, within: float, advance: Callable[[int], None] = lambda frames: None
) -> Groups:
    """Group frames whose distance to the first frame of their group is at most ``within``.

    Frames are taken in order: each joins the nearest group, or begins one. So every two groups'
    first frames are farther apart than ``within``. Time grows with frames times groups. Memory: the
    vectors of the groups' first frames, and 12 bytes a frame.

    Raises:
        InvalidValue: ``within`` is not accepted, or the groups need more than 2 GiB.
    """
    if not 0 <= within < 2:
        raise InvalidValue(f" is {within}; accepted: 0 to below 2", argument="within")
    leader = np.arange(len(features))
    distance = np.zeros(len(features), np.float32)
    kept = _Grown(len(features.cameras), features.width)
    for first, block in features.blocks():
        for start in range(0, len(block), BLOCK_FRAMES):
            vectors = block[start : start + BLOCK_FRAMES]
            frames = np.arange(first + start, first + start + len(vectors))
            nearest, apart = kept.nearest(vectors)
            known = kept.count
            for place, frame in enumerate(frames):
                # Groups that began in this block are compared too: blocks change nothing.
                at, away = int(nearest[place]), float(apart[place])
                if kept.count > known:
                    late, closer = kept.nearest(vectors[place : place + 1], since=known)
                    if closer[0] < away:
                        at, away = int(late[0]), float(closer[0])
                if away <= within:
                    leader[frame] = kept.frames[at]
                    distance[frame] = away
                else:
                    kept.add(int(frame), vectors[place])
        advance(len(block))
    return Groups(leader, distance)


def diverse(
    features: FeatureSet, count: int, advance: Callable[[int], None] = lambda frames: None
) -> list[tuple[int, float]]:
    """Return ``count`` frames that cover the others, and how far each was from those before it.

    The first is the one nearest to the mean of all; each further one is the frame that is farthest
    from all chosen ones (k-center by farthest point). Of equal ones the earlier is taken, so the
    same features give the same choice, and a smaller count its beginning. It ends early when all
    frames are equal to a chosen one. Vectors are kept in an unnamed temporary file (``TMPDIR``);
    memory is one block of it, and 4 bytes a frame.

    Raises:
        InvalidValue: ``count`` is not accepted, or no frame has all searched cameras.
    """
    if not 1 <= count <= len(features):
        raise InvalidValue(
            f" is {count}; accepted: 1 to {len(features)}, the number of frames", argument="diverse"
        )
    with _on_disk(features, advance) as stored:
        there = np.concatenate([b.any(axis=2).all(axis=1) for b in _parts(stored)])
        if not there.any():
            raise InvalidValue(
                f"no frame has all of the cameras {', '.join(features.cameras)}; accepted: one or "
                "more of them, whose images are there",
            )
        total = np.zeros(stored.shape[1:], np.float64)
        for block in _parts(stored):
            total += block.sum(axis=0, dtype=np.float64)
        mean = (total / there.sum()).astype(np.float32)
        lengths = np.linalg.norm(mean, axis=1, keepdims=True)
        mean = np.divide(mean, lengths, out=np.zeros_like(mean), where=lengths > 0)
        from_mean = _distances(stored, mean)
        from_mean[~there] = np.inf
        chosen = [(int(from_mean.argmin()), 0.0)]
        away = np.where(there, np.float32(np.inf), np.float32(-1))
        while len(chosen) < count:
            newest = chosen[-1][0]
            away = np.minimum(away, _distances(stored, np.array(stored[newest])))
            away[newest] = -1
            farthest = int(away.argmax())
            if away[farthest] <= 0:
                break
            chosen.append((farthest, float(away[farthest])))
    return chosen


def frame_distances(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distances (n, m) of frames ``ones`` (n, C, D) to ``others`` (m, C, D)."""
    worst = np.zeros((len(ones), len(others)), np.float32)
    for camera in range(ones.shape[1]):
        one, other = ones[:, camera], others[:, camera]
        each = np.maximum(1 - one @ other.T, 0)
        lacks, also = ~one.any(axis=1), ~other.any(axis=1)
        each[lacks[:, None] != also[None]] = NOWHERE
        each[lacks[:, None] & also[None]] = 0
        np.maximum(worst, each, out=worst)
    return worst


class _Grown:
    """Vectors of the groups' first frames, in an array that grows."""

    def __init__(self, cameras: int, width: int):
        self._vectors = np.zeros((64, cameras, width), np.float32)
        self.frames = np.zeros(64, np.int64)
        self.count = 0

    def add(self, frame: int, vectors: np.ndarray) -> None:
        if self.count == len(self.frames):
            if 2 * self._vectors.nbytes > MOST_KEPT_BYTES:
                raise InvalidValue(
                    f" leaves more than {self.count} groups, whose vectors take more than "
                    f"{MOST_KEPT_BYTES >> 30} GiB; accepted: a larger distance, or fewer frames",
                    argument="within",
                )
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self.frames = np.concatenate([self.frames, np.zeros_like(self.frames)])
        self._vectors[self.count] = vectors
        self.frames[self.count] = frame
        self.count += 1

    def nearest(self, vectors: np.ndarray, since: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest group of each frame from ``since`` on, and its distance."""
        best = np.zeros(len(vectors), np.int64)
        away = np.full(len(vectors), np.inf, np.float32)
        step = max(1, BLOCK_BYTES // (4 * max(1, len(vectors))))
        for start in range(since, self.count, step):
            stop = min(start + step, self.count)
            each = frame_distances(vectors, self._vectors[start:stop])
            place = each.argmin(axis=1)
            found = each[np.arange(len(each)), place]
            closer = found < away
            best[closer] = place[closer] + start
            away[closer] = found[closer]
        return best, away


@contextmanager
def _on_disk(features: FeatureSet, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Copy the vectors (frames, cameras, D) to an unnamed file, and yield it as an array."""
    shape = (len(features), len(features.cameras), features.width)
    with tempfile.TemporaryFile() as file:
        for _, block in features.blocks():
            file.write(np.ascontiguousarray(block, np.float32))
            advance(len(block))
        file.flush()
        yield np.memmap(file, np.float32, "r", shape=shape)


def _parts(stored: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(stored), BLOCK_FRAMES):
        yield stored[first : first + BLOCK_FRAMES]


def _distances(stored: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Return the distances (frames,) of all frames to ``one`` (cameras, D)."""
    return np.concatenate([frame_distances(part, one[None])[:, 0] for part in _parts(stored)])
