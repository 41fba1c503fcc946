"""Learn the basis of an encoder's patch tokens from recorded features, and measure what it keeps.

The directions are those of the largest variance (principal components) of the patch tokens of all
cameras, without missing ones. The last part of each episode is left out of the learning: what the
basis keeps of a token is measured there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.policy.dataset import check_one_meaning
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.basis import REDUCED_KIND, Basis
from vit_perception.wire.layout import Layout
from vit_perception.wire.quantised import SCALE, quantise, restore

# Of each episode, the last part, whose tokens are not learnt from.
HELD_OUT = 0.2
# Counts of directions at which the loss is measured, where they are below D.
CURVE = (8, 16, 32, 64, 128, 256)
WORST = 0.01  # the part of the tokens that `worst_cosine` is the best of


@dataclass(frozen=True)
class Kept:
    """What a count of directions keeps of patch tokens that were not learnt from."""

    # K, the number of directions.
    dims: int
    # Bytes of a patch token on the wire.
    bytes_per_token: int
    # Share of the variance around the mean, from 0 to 1.
    variance: float
    # Mean cosine similarity of a token to what is restored of it, in eight bits.
    mean_cosine: float
    # The cosine similarity that 99 % of the tokens exceed.
    worst_cosine: float


@dataclass(frozen=True)
class Learnt:
    """A basis, and how well it does."""

    basis: Basis
    # Of the basis itself, and of other counts of directions, fewest first.
    kept: Kept
    curve: tuple[Kept, ...]
    # Numbers of frames that were learnt from, and that were measured.
    frames: int
    held_out_frames: int


def learn_basis(
    folder: FeatureFiles, dims: int, advance: Callable[[int], None] = lambda frames: None
) -> Learnt:
    """Learn ``dims`` directions from the tokens of finished output of `embed`.

    ``advance`` is called with the number of frames read. Memory does not depend on their number.

    Raises:
        InvalidValue: There are no patch tokens, too few frames, several encoders, tokens that are
            coefficients already, or ``dims`` is not from 1 to D.
    """
    layout = _checked(folder, dims)
    learn, measure = _parts(folder)
    total, moments = np.zeros(layout.width), np.zeros((layout.width, layout.width))
    count = 0
    for tokens in _patches(folder, layout, learn, advance):
        wide = tokens.astype(np.float64)
        total += wide.sum(axis=0)
        moments += wide.T @ wide
        count += len(tokens)
    if count <= dims:
        raise InvalidValue(
            f"{folder.folder} has {count} patch tokens to learn from; accepted: more than the "
            f"{dims} directions"
        )
    mean = total / count
    directions = _directions(moments / count - np.outer(mean, mean))
    counts = [k for k in CURVE if k < layout.width]
    measured = _measure(
        mean, directions, sorted({*counts, dims}), _patches(folder, layout, measure, advance)
    )
    basis = Basis(
        mean.astype(np.float32), directions[:dims].astype(np.float32), layout.encoder_sha256
    )
    return Learnt(basis, measured[dims], tuple(measured.values()), len(learn), len(measure))


def _checked(folder: FeatureFiles, dims: int) -> Layout:
    check_one_meaning(folder)
    layout = folder.layouts[0] if folder.layouts else None
    if layout is None or "tokens" not in folder.columns:
        raise InvalidValue(
            f"{folder.folder} has no tokens; accepted: output of `vit-perception embed` with "
            "tokens among its features"
        )
    if layout.encoders:
        raise InvalidValue(
            f"{folder.folder} has tokens of {len(layout.encoders)} encoders; accepted: one"
        )
    if layout.basis:
        raise InvalidValue(
            f"{folder.folder} has coefficients of a basis; accepted: tokens in float32, float16 or "
            "int8"
        )
    if not any(group.kind == REDUCED_KIND for group in layout.groups):
        raise InvalidValue(f"{folder.folder} has no patch tokens; accepted: tokens with patches")
    if not 1 <= dims <= layout.width:
        raise InvalidValue(
            f" is {dims}; accepted: 1 to {layout.width}, the width of the tokens", argument="dims"
        )
    return layout


def _parts(folder: FeatureFiles) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to learn from, and the rows at the end of each episode to measure on."""
    learn: list[np.ndarray] = []
    measure: list[np.ndarray] = []
    for episode in np.unique(folder.episode):
        rows = np.flatnonzero(folder.episode == episode)
        held_out = round(HELD_OUT * len(rows))
        learn.append(rows[: len(rows) - held_out])
        measure.append(rows[len(rows) - held_out :])
    if not sum(map(len, measure)):
        raise InvalidValue(
            f"{folder.folder} has {len(folder)} frames in {len(measure)} episodes; accepted: an "
            "episode of at least 3 frames, whose last part is measured"
        )
    return np.concatenate(learn), np.concatenate(measure)


def _patches(
    folder: FeatureFiles, layout: Layout, rows: np.ndarray, advance: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """Yield the patch tokens (T, D) of each frame that are not missing."""
    groups = [group for group in layout.groups if group.kind == REDUCED_KIND]
    for row in rows:
        tokens = folder.row(int(row), ("tokens",))["tokens"]
        patches = np.concatenate([tokens[group.start : group.stop] for group in groups])
        advance(1)
        yield patches[patches.any(axis=1)].astype(np.float32)


def _directions(covariance: np.ndarray) -> np.ndarray:
    """Return all directions (D, D), the one of the largest variance first."""
    directions = np.linalg.eigh(covariance)[1].T[::-1]
    # An eigenvector may as well be its negative: the largest component is positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return directions * signs[:, None]


def _measure(
    mean: np.ndarray,
    directions: np.ndarray,
    counts: Sequence[int],
    patches: Iterator[np.ndarray],
) -> dict[int, Kept]:
    """Return what each of ``counts`` keeps of ``patches``, as the wire carries it."""
    cosines: dict[int, list[np.ndarray]] = {count: [] for count in counts}
    kept = dict.fromkeys(counts, 0.0)
    whole = 0.0
    for tokens in patches:
        centred = tokens - mean
        whole += float((centred**2).sum())
        coefficients = centred @ directions[: counts[-1]].T
        for count in counts:
            first = coefficients[:, :count]
            kept[count] += float((first**2).sum())
            sent = restore(quantise(first.astype(np.float32)))
            restored = sent @ directions[:count] + mean
            lengths = np.linalg.norm(restored, axis=1) * np.linalg.norm(tokens, axis=1)
            cosines[count].append((restored * tokens).sum(axis=1) / lengths)
    return {
        count: Kept(
            dims=count,
            bytes_per_token=count + SCALE.itemsize,
            variance=kept[count] / whole,
            mean_cosine=float(np.concatenate(cosines[count]).mean()),
            worst_cosine=float(np.quantile(np.concatenate(cosines[count]), WORST)),
        )
        for count in counts
    }
