"""Which rows of the features become frames of which episode, with their states and actions.

LeRobot counts time in frames: frame k of an episode is at k / fps. A row that is left out, or a gap
in the recording, therefore ends an episode.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from vit_perception.datasets.lerobot.layout import STATE
from vit_perception.datasets.lerobot.state import names_of, numbers_of
from vit_perception.datasets.lerobot.writer.options import (
    NEXT,
    NEXT_STATE,
    NO_ACTION,
    NOW,
    LeRobotOptions,
    action_column,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

# A gap of more than this many periods ends an episode.
MOST_GAP_PERIODS = 1.5
LEAST_FRAMES = 2  # of an episode
# A rate this near to a whole number is that number.
_WHOLE = 0.02


@dataclass
class Frames:
    """The frames of all episodes, and what was left out."""

    fps: float
    # The rows of each episode, in order.
    episodes: list[np.ndarray]
    # Of every row of the features: (rows, n) float32; None without.
    state: np.ndarray | None
    action: np.ndarray | None
    # A name for each number.
    state_names: list[str]
    action_names: list[str]
    # How many rows were left out, by reason.
    left_out: dict[str, int] = field(default_factory=dict)
    # Lines for people.
    notes: list[str] = field(default_factory=list)


def frames_of(files: FeatureFiles, options: LeRobotOptions) -> Frames:
    """Find the episodes in ``files``.

    Raises:
        InvalidValue: There is no action, no rate, or no frame is left.
    """
    period_ns = _period_ns(files)
    fps = NANOSECONDS_PER_SECOND / period_ns
    whole = round(fps)
    notes = []
    if whole and abs(fps - whole) <= _WHOLE * whole:
        fps = whole
    state, state_names = _state(files)
    action, action_names, shift = _action(files, options, state, state_names, notes, period_ns)
    described = [entry["name"] for entry in files.manifest["run"].get("columns", ())]
    taken = {action_column(k) for k in range(max(1, len(options.topics)))}
    if others := [name for name in described if name not in taken]:
        notes.append(f"columns of the parameter file that are not written: {', '.join(others)}")
    left_out: dict[str, int] = {}
    usable = np.ones(len(files), bool)
    if state is not None:
        usable = _without(usable, np.isfinite(state).all(axis=1), "no state", left_out)
    # First the runs of the recording, since an action may be that of the next row.
    runs = list(_runs(files, np.ones(len(files), bool), period_ns, notes))
    if action is not None and shift:
        moved = np.full_like(action, np.nan)
        last = np.zeros(len(files), bool)
        for run in runs:
            moved[run[:-1]] = action[run[1:]]
            last[run[-1]] = True
        action = moved
        usable = _without(usable, ~last, "the last of its episode has no next one", left_out)
    if action is not None:
        usable = _without(usable, np.isfinite(action).all(axis=1), "no action", left_out)
    episodes = list(_runs(files, usable, period_ns, []))
    short = [run for run in episodes if len(run) < LEAST_FRAMES]
    if short:
        left_out[f"in an episode of fewer than {LEAST_FRAMES} frames"] = sum(map(len, short))
    episodes = [run for run in episodes if len(run) >= LEAST_FRAMES]
    if not episodes:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InvalidValue(
            f"{files.folder}: none of {len(files)} frames is left ({why or 'there are none'}); "
            f"accepted: frames with a state and an action, {LEAST_FRAMES} or more in a row"
        )
    return Frames(
        fps=fps,
        episodes=episodes,
        state=None if state is None else state.astype(np.float32),
        action=None if action is None else action.astype(np.float32),
        state_names=state_names,
        action_names=action_names,
        left_out=left_out,
        notes=notes,
    )


def _without(
    usable: np.ndarray, good: np.ndarray, reason: str, left_out: dict[str, int]
) -> np.ndarray:
    if count := int((usable & ~good).sum()):
        left_out[reason] = count
    return usable & good


def _period_ns(files: FeatureFiles) -> float:
    """Return the median time between two frames of an episode."""
    steps_ns = np.diff(files.stamp_ns)[np.diff(files.episode) == 0]
    steps_ns = steps_ns[steps_ns > 0]
    if not len(steps_ns):
        raise InvalidValue(
            f"{files.folder} has no two frames of one episode with different stamps, and so no "
            "rate; accepted: recordings of two or more frames"
        )
    return float(np.median(steps_ns))


def _runs(
    files: FeatureFiles, usable: np.ndarray, period_ns: float, notes: list[str]
) -> Iterator[np.ndarray]:
    """Yield the rows of each run of usable rows without a gap."""
    rows = np.flatnonzero(usable)
    if not len(rows):
        return
    steps_ns = np.diff(files.stamp_ns[rows])
    same = np.diff(files.episode[rows]) == 0
    gaps = same & ~((steps_ns > 0) & (steps_ns <= MOST_GAP_PERIODS * period_ns))
    if gaps.any():
        notes.append(
            f"an episode ends at each gap of more than {MOST_GAP_PERIODS} periods and at each step "
            f"back in time: {int(gaps.sum())}"
        )
    yield from np.split(rows, np.flatnonzero(~same | gaps) + 1)


def _state(files: FeatureFiles) -> tuple[np.ndarray | None, list[str]]:
    """Return the state of every row, NaN where a source is missing, and names."""
    sources = files.layouts[0].samples if files.layouts else ()
    if not sources:
        return None, []
    parts = [numbers_of(each, column_of(files, f"{each.name}.{each.kind}")) for each in sources]
    return np.concatenate(parts, axis=1), [name for each in sources for name in names_of(each)]


def _action(
    files: FeatureFiles,
    options: LeRobotOptions,
    state: np.ndarray | None,
    state_names: list[str],
    notes: list[str],
    period_ns: float,
) -> tuple[np.ndarray | None, list[str], bool]:
    """Return the action of every row, a name for each number, and whether it is the next row's."""
    options.check(files.columns, has_state=state is not None)
    if options.actions == (NO_ACTION,):
        return None, [], False
    if options.actions == (NEXT_STATE,):
        notes.append(f"action: {STATE} of the next frame")
        return state, state_names, True
    described = {entry["name"]: entry for entry in files.manifest["run"].get("columns", ())}
    columns = [action_column(k) for k in range(max(1, len(options.topics)))]
    columns = [name for name in columns if name in files.columns]
    at = options.action_at or (NEXT if columns[0] in described else NOW)
    parts: list[np.ndarray] = []
    names: list[str] = []
    for name in columns:
        values = column_of(files, name)
        if f"{name}.mask" in files.columns:
            values[~column_of(files, f"{name}.mask")[:, 0].astype(bool)] = np.nan
        parts.append(values)
        entry = described.get(name, {})
        names += entry.get("numbers", [f"{name}_{k}" for k in range(values.shape[1])])
        if entry:
            notes.append(_rate_note(files, name, entry["topic"], at, period_ns))
    if len(set(names)) < len(names):
        names = [f"{k}.{name}" for k, name in enumerate(names)]
    return np.concatenate(parts, axis=1), names, at == NEXT


def _rate_note(files: FeatureFiles, name: str, topic: str, at: str, period_ns: float) -> str:
    """Say how commands lie between frames: their rate may be another one."""
    ages_ns = column_of(files, f"{name}.age_ns")[:, 0]
    stamps_ns = column_of(files, f"{name}.stamp_ns")[:, 0]
    ages_ns, stamps_ns = ages_ns[ages_ns >= 0], stamps_ns[ages_ns >= 0]
    up_to = "the next frame" if at == NEXT else "the frame itself"
    if not len(ages_ns):
        return f"action: {topic}, the last command up to {up_to}; no frame has any"
    again = float((np.diff(stamps_ns) == 0).mean()) if len(stamps_ns) > 1 else 0.0
    return (
        f"action: {topic}, the last command up to {up_to}; {100 * again:.0f} % of frames have the "
        f"command of the frame before them again; a command is {np.median(ages_ns) / 1e6:.0f} ms "
        f"old in the middle, {ages_ns.max() / 1e6:.0f} ms at most (a frame takes "
        f"{period_ns / 1e6:.0f} ms)"
    )


def column_of(files: FeatureFiles, name: str) -> np.ndarray:
    """Return a column of every row, (rows, n) float64."""
    values = np.asarray(files.column(name), np.float64)
    return values.reshape(len(values), -1) if len(values) else np.zeros((0, 1))
