"""One row an episode: what tells a bad recording from a good one."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vit_perception.datasets.embed_journal import JOURNAL
from vit_perception.datasets.search.choose import frame_distances
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.policy.features import FeatureFiles

# A step of more than this many median steps is a gap.
GAP_STEPS = 2.5
# Frames of each episode that novelty is computed from: as many as together are this many.
MOST_SAMPLES = 20_000
FEWEST_OF_EPISODE = 4
MOST_OF_EPISODE = 64
# From this many episodes on, one may stand out.
LEAST_EPISODES = 5
# How many times the median deviation of all episodes a novelty is above their median.
NOVEL_DEVIATIONS = 5.0
SHORT = 0.5  # of the median length


@dataclass(frozen=True)
class Episode:
    """What is known of one episode."""

    # From 0, over all folders.
    episode: int
    # Name of the recording.
    recording: str
    frames: int
    # From the first frame to the last, in s.
    length_s: float
    # Of the median step between frames; 0 of a single frame.
    rate_hz: float
    # Steps of more than 2.5 median steps, the longest step, and the frames that would fill them.
    gaps: int
    longest_step_s: float
    missing_frames: int
    # Images of the recording that `embed` dropped, over all its episodes; None if it is not known.
    dropped: int | None
    # Frames in which a camera is missing.
    camera_missing: int
    # Mean distance of its frames to the nearest frame of another episode, of those that have all
    # cameras; None if there are none.
    novelty: float | None
    # What to look at; empty if nothing stands out.
    notes: tuple[str, ...] = ()


def episodes_of(
    features: FeatureSet, advance: Callable[[int], None] = lambda frames: None
) -> list[Episode]:
    """Return a row for each episode, in order.

    Novelty is computed from 4 to 64 evenly spread frames an episode (20,000 in all, if there are at
    most 5,000 episodes). Memory: their vectors, 40 bytes a frame, and one block.
    """
    numbers, starts, counts = np.unique(features.episode, return_index=True, return_counts=True)
    chosen = _samples(starts, counts)
    kept = np.zeros((len(chosen), len(features.cameras), features.width), np.float32)
    lacking = np.zeros(len(features), bool)
    for first, block in features.blocks():
        lacking[first : first + len(block)] = ~block.any(axis=2).all(axis=1)
        inside = (chosen >= first) & (chosen < first + len(block))
        kept[inside] = block[chosen[inside] - first]
        advance(len(block))
    novelty = _novelty(kept, features.episode[chosen], numbers)
    dropped = _dropped(features)
    rows = []
    for k, number in enumerate(numbers):
        frames = slice(int(starts[k]), int(starts[k] + counts[k]))
        steps_s = np.diff(features.stamp_ns[frames]) / 1e9
        median_s = float(np.median(steps_s)) if len(steps_s) else 0.0
        wide = steps_s[steps_s > GAP_STEPS * median_s] if median_s > 0 else steps_s[:0]
        rows.append(
            Episode(
                episode=int(number),
                recording=features.name_of(frames.start).source,
                frames=int(counts[k]),
                length_s=float(steps_s.sum()),
                rate_hz=1 / median_s if median_s > 0 else 0.0,
                gaps=len(wide),
                longest_step_s=float(steps_s.max(initial=0.0)),
                missing_frames=int(np.rint(wide / median_s - 1).sum()) if len(wide) else 0,
                dropped=dropped[features.source_number(frames.start)],
                camera_missing=int(lacking[frames].sum()),
                novelty=novelty[k],
            )
        )
    return _noted(rows)


def _samples(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the frames of all episodes that are compared, in order."""
    each = int(np.clip(MOST_SAMPLES // len(counts), FEWEST_OF_EPISODE, MOST_OF_EPISODE))
    return np.concatenate(
        [
            start + np.unique(np.linspace(0, count - 1, min(each, count)).round().astype(np.int64))
            for start, count in zip(starts, counts)
        ]
    )


def _novelty(vectors: np.ndarray, episode: np.ndarray, numbers: np.ndarray) -> list[float | None]:
    if len(numbers) < 2:
        return [None] * len(numbers)
    # A missing camera has a note of its own.
    complete = vectors.any(axis=2).all(axis=1)
    found: list[float | None] = []
    for number in numbers:
        own = (episode == number) & complete
        others = np.flatnonzero((episode != number) & complete)
        nearest = np.full(int(own.sum()), np.inf, np.float32)
        for first in range(0, len(others), 4096):
            part = vectors[others[first : first + 4096]]
            np.minimum(nearest, frame_distances(vectors[own], part).min(axis=1), out=nearest)
        found.append(float(nearest.mean()) if own.any() and len(others) else None)
    return found


def _dropped(features: FeatureSet) -> list[int | None]:
    """Return how many images `embed` dropped of each recording, by the journals."""
    found: list[int | None] = []
    for files in features.folders:
        found += _dropped_of(files)
    return found


def _dropped_of(files: FeatureFiles) -> list[int | None]:
    count = len(files.manifest["run"]["sources"])
    total = sum(files.manifest["dropped"].values())
    if count == 1 or not total:
        return [total] if count == 1 else [0] * count
    counts = [0] * count
    try:
        for line in (files.folder / JOURNAL).read_text().splitlines():
            entry = json.loads(line)
            counts[entry["source"]] += sum(entry["dropped"].values())
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return [None] * count
    return list(counts)


def _noted(rows: list[Episode]) -> list[Episode]:
    """Add what stands out: gaps, drops, missing cameras; of five or more, short and novel ones."""
    lengths = np.array([row.length_s for row in rows])
    novelties = np.array([row.novelty for row in rows if row.novelty is not None])
    enough = len(rows) >= LEAST_EPISODES
    limit = np.inf
    if enough and len(novelties):
        middle = float(np.median(novelties))
        limit = middle + NOVEL_DEVIATIONS * float(np.median(np.abs(novelties - middle)))
    noted = []
    for row in rows:
        notes = []
        if row.gaps:
            notes.append("gaps")
        if row.dropped:
            notes.append("dropped")
        if row.camera_missing:
            notes.append("camera missing")
        if enough and row.length_s < SHORT * np.median(lengths):
            notes.append("short")
        if row.novelty is not None and row.novelty > limit:
            notes.append("novel")
        noted.append(replace(row, notes=tuple(notes)))
    return noted
