"""Learn what is normal for each camera from features, and measure it on frames that were held out.

Memory does not depend on the number of frames: they are read three times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vit_perception.datasets.reference.statistics import (
    MOST_SAMPLED,
    components_of,
    mean_tokens,
    prototypes_of,
    static_patches,
    telling_directions,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.novelty import most_novel, of_background, squared
from vit_perception.pipeline.monitor.reference import CameraReference, Reference, View
from vit_perception.pipeline.monitor.shift import unit
from vit_perception.policy.dataset import check_one_meaning
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.basis import REDUCED_KIND
from vit_perception.wire.layout import Layout, LayoutGroup

# Every fifth episode is held out; of fewer than five episodes, the last fifth of each.
EPISODES_FOR_ONE = 5
# So many frames are enough; of more, evenly spread ones are taken.
MOST_FRAMES = 2000
FEWEST_FRAMES = 8
FEWEST_HELD_OUT = 4
SEED = 0
# Share of the held-out frames that limits and noise are above.
NORMAL = 0.99

Frames = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Learnt:
    """A reference, and how much it was learnt from."""

    reference: Reference
    # Numbers of frames by camera: learnt from, and held out.
    frames: dict[str, tuple[int, int]]


def learn_reference(
    folder: FeatureFiles, advance: Callable[[int], None] = lambda frames: None
) -> Learnt:
    """Learn the reference of the cameras of finished output of `embed`.

    ``advance`` is called with the number of frames read, of :func:`reads_of` in all.

    Raises:
        InvalidValue: There are no patch tokens, too few frames, several encoders, or images of
            several sizes.
    """
    layout = _checked(folder)
    learn, held_out = parts_of(folder.episode)
    cameras = {}
    counts = {}
    for camera in layout.cameras:
        group = _patches_of(layout, camera.name)
        view = View.of(camera, group.grid or (1, group.stop - group.start))

        def frames(rows: np.ndarray, group: LayoutGroup = group) -> Frames:
            return lambda: _tokens(folder, group, rows, advance)

        reference, seen = learn_camera(camera.name, view, frames(learn), frames(held_out))
        cameras[camera.name] = reference
        counts[camera.name] = (seen, len(reference.held_out))
    return Learnt(Reference(cameras, layout.encoder_sha256, layout.model), counts)


def reads_of(folder: FeatureFiles) -> int:
    """Return how many frames :func:`learn_reference` reads in all, each time counted."""
    learn, held_out = parts_of(folder.episode)
    cameras = len(folder.layouts[0].cameras) if folder.layouts else 0
    return cameras * (2 * len(learn) + len(held_out))


def parts_of(episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to learn from and those that are held out, by the ``episode`` of each."""
    every = [np.flatnonzero(episode == number) for number in np.unique(episode)]
    learn: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for number, rows in enumerate(every):
        if len(every) >= EPISODES_FOR_ONE:
            is_held_out = number % EPISODES_FOR_ONE == EPISODES_FOR_ONE - 1
            (held_out if is_held_out else learn).append(rows)
        else:
            count = round(len(rows) / EPISODES_FOR_ONE)
            learn.append(rows[: len(rows) - count])
            held_out.append(rows[len(rows) - count :])
    return _spread(learn), _spread(held_out)


def _spread(parts: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate([*parts, np.zeros(0, np.int64)])
    if len(rows) <= MOST_FRAMES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_FRAMES).round().astype(np.int64)]


def learn_camera(
    name: str, view: View, learn: Frames, held_out: Frames
) -> tuple[CameraReference, int]:
    """Return the reference of one camera, and how many frames it was learnt from.

    ``learn`` and ``held_out`` give the patch tokens (P, D) of the frames, as often as called.
    """
    means, count = mean_tokens(learn())
    if count < FEWEST_FRAMES:
        raise InvalidValue(
            f"camera {name} has {count} frames to learn from; accepted: {FEWEST_FRAMES} or more"
        )
    static = static_patches(means)
    taken = static if static.sum() > 1 else np.ones(len(means), bool)
    moments, sample = _second_pass(learn(), means, taken, count)
    directions = telling_directions(means, moments, taken, view.grid)
    centre, mean = means.mean(axis=0), sample.mean(axis=0)
    components = components_of(sample - mean)
    background = ((means - centre) @ directions).astype(np.float32)
    reference = CameraReference(
        view=view,
        static=static,
        centre=centre.astype(np.float32),
        directions=directions.astype(np.float32),
        background=background,
        typical=np.ones(len(static), np.float32),
        mean=mean.astype(np.float32),
        components=components.astype(np.float32),
        prototypes=prototypes_of(((sample - mean) @ components).astype(np.float32)),
        limits=np.ones(3, np.float32),
        held_out=np.zeros(1, np.float32),
        shift_noise=np.zeros(3, np.float32),
    )
    return _measured(name, reference, held_out()), count


def _second_pass(
    frames: Iterator[np.ndarray], means: np.ndarray, static: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance over time (D, D) of static patches, and a sample of all tokens."""
    random = np.random.default_rng(SEED)
    patches, channels = means.shape
    each = min(patches, -(-MOST_SAMPLED // count))
    moments = np.zeros((channels, channels))
    sample = []
    for tokens in frames:
        tokens = unit(tokens)
        changes = (tokens - means)[static]
        moments += changes.T @ changes
        sample.append(tokens[random.choice(patches, each, replace=False)])
    return moments / (count * static.sum()), np.concatenate(sample)[:MOST_SAMPLED]


def _measured(
    name: str, reference: CameraReference, held_out: Iterator[np.ndarray]
) -> CameraReference:
    """Return ``reference`` with what is normal in the frames that were held out."""
    monitor = CameraMonitor(reference)
    most, changes, shifts = [], [], []
    for patch_tokens in held_out:
        tokens, moved = monitor.seen(patch_tokens)
        most.append(most_novel(monitor.novelty.distances(tokens)))
        changes.append(squared(moved - reference.background))
        shift = monitor.fit(moved)[0] if monitor.fit else None
        if shift:
            shifts.append((shift.x_px, shift.y_px, shift.rotation_deg))
    if len(most) < FEWEST_HELD_OUT:
        raise InvalidValue(
            f"camera {name} has {len(most)} frames that are held out; accepted: {FEWEST_HELD_OUT} "
            "or more, every fifth episode or the last fifth of each"
        )
    # Frames that are all alike have no distance at all.
    typical = np.mean(changes, axis=0) + 1e-6
    parts = np.zeros((len(most), 3))
    parts[:, 0] = most
    if reference.has_background:
        static = reference.static
        parts[:, 1:] = [of_background((each / typical)[static]) for each in changes]
    limits = np.quantile(parts, NORMAL, axis=0)
    limits = np.where(limits > 0, limits, 1.0)
    noise = np.quantile(np.abs(shifts), NORMAL, axis=0) if shifts else np.zeros(3)
    return replace(
        reference,
        typical=typical.astype(np.float32),
        limits=limits.astype(np.float32),
        held_out=np.sort((parts / limits).max(axis=1)).astype(np.float32),
        shift_noise=noise.astype(np.float32),
    )


def _checked(folder: FeatureFiles) -> Layout:
    check_one_meaning(folder)
    layout = folder.layouts[-1] if folder.layouts else None
    if layout is None or "tokens" not in folder.columns:
        raise InvalidValue(
            f"{folder.folder} has no tokens; accepted: output of `vit-perception embed` with "
            "tokens among its features"
        )
    if layout.encoders:
        raise InvalidValue(
            f"{folder.folder} has tokens of {len(layout.encoders)} encoders; accepted: one"
        )
    for other in folder.layouts:
        sizes = {c.name: c.source_size_px for c in other.cameras}
        for camera in layout.cameras:
            size = sizes.get(camera.name)
            if size and size != camera.source_size_px:
                raise InvalidValue(
                    f"{folder.folder} has images of camera {camera.name} of {size} and "
                    f"{camera.source_size_px} px (height, width); accepted: one size"
                )
    return layout


def _patches_of(layout: Layout, camera: str) -> LayoutGroup:
    for group in layout.groups:
        if (group.source, group.kind, group.step) == (camera, REDUCED_KIND, 0):
            return group
    raise InvalidValue(f"camera {camera} has no patch tokens; accepted: tokens with patches")


def _tokens(
    folder: FeatureFiles, group: LayoutGroup, rows: np.ndarray, advance: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """Yield the patch tokens (P, D) of each frame that has them."""
    for row in rows:
        tokens = folder.row(int(row), ("tokens",))["tokens"][group.start : group.stop]
        advance(1)
        if tokens.any():
            yield tokens.astype(np.float32)
