"""`embed`'s output as a torch data set: windows over time, for any number of workers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.policy.continuity import (
    MAX_GAP_S,
    checked_ages,
    checked_max_gap_ns,
    follows,
    views_of,
)
from vit_perception.policy.features import FeatureFiles
from vit_perception.policy.layout_check import meaning_of
from vit_perception.policy.token_columns import COEFFICIENTS
from vit_perception.wire.json_values import differing_fields
from vit_perception.wire.layout import Layout
from vit_perception.wire.layout_history import NO_FRAME, same_views, with_history


class FeatureDataset(Dataset):
    """Map-style data set of windows; each ends at a frame that has enough frames before it.

    An item has

    * ``tokens``: (history, N, D) in the stored dtype,
    * ``mask``: (history, N) bool,
    * ``stamps_ns``: (history,) int64,
    * ``poses``: by arm, (history, 7) float64: position in m, quaternion xyzw; NaN if missing,
    * ``states``: by name, (history, n) float64, with joints and fields as in ``layouts[0].states``,
    * sources of other kinds in the same way by their group's name, such as ``wrenches``,
    * ``embedding``: (history, L), if it was stored,
    * tokens of another width by their kind, such as ``policy_state``: (history, T, W), if tokens
      were stored; zeros if missing,
    * ``coefficients``: by group, (history, T, K) float32, only with ``expand`` False and features
      that are coefficients of a basis; ``tokens`` then has the rows of the other groups,
    * ``layout``: int; ``layouts[item["layout"]]`` says how to read the item,
    * each of ``columns``, with a leading axis of ``history``,
    * ``chunks``: by column, (length, ...) float64: the column at the window's last frame and at the
      ones after it, ``chunk_stride`` frames apart. Zeros where ``chunk_masks`` is False,
    * ``chunk_masks``: by column, (length,) bool: False from the end of the episode on, and where
      the column has no value.

    ``chunks`` gives the length of each, for example ``{"action": 16}``: the actions that a policy
    learns to predict. A chunk ends where a window would: it never goes on in another episode.

    Frames of a window are ``stride`` frames apart, oldest first. A window never spans two episodes,
    two layouts, a step back in time, or a gap of more than ``max_gap_s`` between successive frames.

    With ``stride_s`` they are that time apart instead, as the node's ``history`` has them: each
    frame ends a window, and a step takes the frame nearest to its time, within ``tolerance_s`` (0:
    half of ``stride_s``). A step without one has the stamp 0, a mask of False, NaN as the numbers
    of sources, and zeros otherwise. It is one of the same episode since the last step back in time,
    whose cameras have the image sizes and frames of the window's last frame.

    Of features of `embed --augment`, ``repeats`` chooses repeats by number: ``(0,)`` are the
    pictures as they were recorded, None (the default) all. A repeat is an episode of its own.

    Each process opens the files itself when it reads them; workers share nothing.

    Raises:
        InvalidValue: the folder is not finished output of `embed`, a number or a column is not
            accepted, or the layouts differ in more than a camera's geometry (its image size and
            what follows from it, and its frame_id).
    """

    def __init__(
        self,
        folder: Path | str,
        history: int = 1,
        stride: int = 1,
        max_gap_s: float = MAX_GAP_S,
        columns: tuple[str, ...] = (),
        chunks: Mapping[str, int] | None = None,
        chunk_stride: int = 1,
        *,
        stride_s: float | None = None,
        tolerance_s: float = 0.0,
        expand: bool = True,
        repeats: Collection[int] | None = None,
    ):
        max_gap_ns = checked_max_gap_ns(history, stride, max_gap_s)
        self._rule = checked_ages(history, stride, stride_s, tolerance_s)
        self.files = FeatureFiles(folder, expand)
        self.history = history
        self.stride = stride
        check_one_meaning(self.files)
        stored = self.files.columns
        self._samples = self.layouts[0].samples if self.layouts else ()
        self._apart = self.layouts[0].apart if self.layouts else ()
        self.arms = [source.name for source in self._samples if source.group == "poses"]
        self._extra = tuple(columns)
        self._names = (
            "stamp_ns",
            "mask",
            *(n for n in ("tokens", "embedding") if n in stored),
            *self.files.coefficients,
            *(f"{source.name}.{source.kind}" for source in self._samples),
            *(each.kind for each in self._apart if each.kind in stored),
            *self._extra,
        )
        self._chunks = checked_chunks(dict(chunks or {}), chunk_stride)
        self._chunk_stride = chunk_stride
        self._require("columns", self._names)
        self._require("chunks", tuple(self._chunks))
        self._begins = self._beginnings(max_gap_ns)
        self._ends = self._complete_windows()
        if self._rule:
            self._check_no_history()
            self._ends = np.arange(len(self.files.stamp_ns))
            self._runs = self._beginnings()
        if repeats is not None:
            self._ends = self._ends[self._of_repeats(repeats)[self._ends]]

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """How to read the tokens; a ``LiveDecoder`` takes them as ``expected``."""
        return self.files.layouts

    @property
    def layouts_of_history(self) -> tuple[Layout, ...]:
        """``layouts`` as a node sends them whose history makes these windows by age.

        A ``LiveDecoder`` of that node takes them as ``expected``. Without ``stride_s``, and for one
        frame, they are ``layouts``.
        """
        rule = self._rule
        if rule is None or rule.frames == 1:
            return self.layouts
        return tuple(with_history(layout, rule) for layout in self.layouts)

    def _require(self, argument: str, names: tuple[str, ...]) -> None:
        stored = self.files.columns
        if unknown := [name for name in names if name not in stored and stored]:
            raise InvalidValue(
                f" has {', '.join(unknown)}; there are: {', '.join(stored)}",
                argument=argument,
                hint=nearest(unknown[0], stored),
            )

    def _of_repeats(self, repeats: Collection[int]) -> np.ndarray:
        there = sorted(set(self.files.repeat.tolist()))
        if unknown := sorted(set(repeats) - set(there)):
            raise InvalidValue(
                f" has {unknown[0]}; there are: {', '.join(map(str, there))}", argument="repeats"
            )
        return np.isin(self.files.repeat, list(repeats))

    def _check_no_history(self) -> None:
        if any(layout.history for layout in self.layouts):
            raise InvalidValue(
                f" is given, and the tokens of {self.files.folder} have a history already; "
                "accepted: none, and the steps of a row by layout.steps",
                argument="stride_s",
            )

    def _beginnings(self, max_gap_ns: int | None = None) -> np.ndarray:
        """Return the rows at which something begins that is not a continuation, in order.

        Without ``max_gap_ns`` gaps and other layouts are no break.
        """
        stamps_ns = self.files.stamp_ns
        if not len(stamps_ns):
            return np.zeros(0, np.int64)
        continues = follows(
            step_ns=np.diff(stamps_ns),
            same_episode=np.diff(self.files.episode) == 0,
            same_layout=(max_gap_ns is None) | (np.diff(self.files.layout_index) == 0),
            max_gap_ns=np.iinfo(np.int64).max if max_gap_ns is None else max_gap_ns,
        )
        return np.concatenate([[0], np.flatnonzero(~continues) + 1])

    def _complete_windows(self) -> np.ndarray:
        """Return the rows that have (history - 1) * stride rows before them without a break."""
        rows = np.arange(len(self.files.stamp_ns))
        if not len(rows):
            return rows
        since = rows - self._begins[np.searchsorted(self._begins, rows, side="right") - 1]
        return rows[since >= (self.history - 1) * self.stride]

    def _parts(self, end: int) -> list[dict[str, np.ndarray]]:
        """Return the rows of the window that ends at the row ``end``, oldest first."""
        if self._rule is None:
            rows = range(end - (self.history - 1) * self.stride, end + 1, self.stride)
            return [self.files.row(row, self._names) for row in rows]
        begin = int(self._runs[np.searchsorted(self._runs, end, side="right") - 1])
        places = self._rule.chosen(self.files.stamp_ns[begin : end + 1])
        last = self.files.row(end, self._names)
        missing = {name: np.zeros_like(value) for name, value in last.items()}
        for source in self._samples:
            name = f"{source.name}.{source.kind}"
            missing[name] = np.full_like(last[name], np.nan)
        parts = [
            missing if place == NO_FRAME else self.files.row(begin + int(place), self._names)
            for place in places
        ]
        layouts = self.files.layout_index
        now = views_of(self.layouts[layouts[end]], last["mask"])
        for step, place in enumerate(places):
            if place != NO_FRAME and layouts[begin + place] != layouts[end]:
                layout = self.layouts[layouts[begin + place]]
                if not same_views(views_of(layout, parts[step]["mask"]), now):
                    parts[step] = missing
        return parts

    def _chunk(self, name: str, length: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``length`` values of a column from ``row`` on, and which of them are values."""
        after = np.searchsorted(self._begins, row, side="right")
        end = int(self._begins[after]) if after < len(self._begins) else len(self.files)
        masked = f"{name}.mask"
        names = (name, masked) if masked in self.files.columns else (name,)
        rows = range(row, end, self._chunk_stride)[:length]
        parts = [self.files.row(each, names) for each in rows]
        values = np.stack([np.asarray(part[name], np.float64) for part in parts])
        there = np.isfinite(values).reshape(len(parts), -1).all(axis=1)
        if masked in names:
            there &= np.array([bool(part[masked]) for part in parts])
        chunk = np.zeros((length, *values.shape[1:]))
        chunk[: len(parts)][there] = values[there]
        mask = np.zeros(length, bool)
        mask[: len(parts)] = there
        return torch.from_numpy(chunk), torch.from_numpy(mask)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one item. Raises IndexError beyond the end, as a sequence does."""
        end = int(self._ends[index])
        parts = self._parts(end)
        stacked = {
            name: torch.from_numpy(np.stack([part[name] for part in parts])) for name in self._names
        }
        item: dict[str, Any] = {"stamps_ns": stacked.pop("stamp_ns")}
        item |= {"poses": {}, "states": {}}
        for source in self._samples:
            numbers = stacked.pop(f"{source.name}.{source.kind}")
            item.setdefault(source.group, {})[source.name] = numbers
        if self._chunks:
            chunks = {name: self._chunk(name, n, end) for name, n in self._chunks.items()}
            item["chunks"] = {name: values for name, (values, _) in chunks.items()}
            item["chunk_masks"] = {name: mask for name, (_, mask) in chunks.items()}
        if self.files.coefficients:
            item["coefficients"] = {
                name.removeprefix(COEFFICIENTS): stacked.pop(name)
                for name in self.files.coefficients
            }
        return item | stacked | {"layout": int(self.files.layout_index[end])}


def checked_chunks(chunks: dict[str, int], stride: int) -> dict[str, int]:
    """Return ``chunks`` after a check of their lengths and of ``stride``.

    Raises:
        InvalidValue: one of them is below 1.
    """
    if stride < 1:
        raise InvalidValue(f" is {stride}; accepted: 1 or more", argument="chunk_stride")
    for name, length in chunks.items():
        if length < 1:
            raise InvalidValue(f" of {name} is {length}; accepted: 1 or more", argument="chunks")
    return chunks


def check_one_meaning(files: FeatureFiles) -> None:
    """Check that the layouts of ``files`` give the tokens the same meaning.

    Raises:
        InvalidValue: they do not, or a row has no layout.
    """
    if len(files) and not 0 <= files.layout_index.min() <= files.layout_index.max() < len(
        files.layouts
    ):
        raise InvalidValue(
            f"{files.folder} has rows of layout {files.layout_index.min()} to "
            f"{files.layout_index.max()}; accepted: 0 to {len(files.layouts) - 1}, as its manifest "
            "has them"
        )
    for number, layout in enumerate(files.layouts[1:], 1):
        if differences := differing_fields(meaning_of(files.layouts[0]), meaning_of(layout)):
            raise InvalidValue(
                f"{files.folder}: layout {number} is not that of layout 0: "
                f"{'; '.join(differences[:4])}; accepted: layouts that differ in the geometry of a "
                "camera alone"
            )
