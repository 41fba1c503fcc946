"""CLS and patch vectors of one folder of `embed`, in whatever form they are stored."""

from collections.abc import Iterator, Sequence

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.policy.features import FeatureFiles
from vit_perception.policy.token_columns import TOKENS
from vit_perception.wire.layout import Layout, LayoutGroup

EMBEDDING = "embedding"


def encoders_of(layout: Layout) -> tuple[str, ...]:
    """Return the names of the encoders; of one alone it is ""."""
    return tuple(encoder.name for encoder in layout.encoders) or ("",)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return ``vectors`` (..., D) as float32 of length 1; those of zeros, NaN or infinity are 0."""
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    good = np.isfinite(lengths) & (lengths > 0)
    return np.where(good, wide / np.where(good, lengths, 1), np.float32(0))


class StoredVectors:
    """The vectors of one encoder in one folder.

    CLS vectors come from the first of: the column ``<camera>.cls``, the rows of ``tokens``, the
    parts of ``embedding``. int8 and coefficients of a basis are restored. Of a history, the newest
    step is taken.
    """

    def __init__(self, files: FeatureFiles, encoder: str):
        self._files = files
        self._encoder = encoder
        self._layout = files.layouts[0]
        self._is_first = encoder == encoders_of(self._layout)[0]

    def of_row(self, row: int, cameras: Sequence[str]) -> np.ndarray:
        """Return the CLS vectors (cameras, D) of one row."""
        columns = self._columns(cameras)
        arrays = self._files.row(row, columns)
        return self._taken({n: values[None] for n, values in arrays.items()}, cameras)[0]

    def blocks(
        self, cameras: Sequence[str], shard: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, CLS vectors (n, cameras, D)) of all files, or of one."""
        columns = self._columns(cameras)
        for first, arrays in self._files.blocks(columns, shard):
            yield first, self._taken(arrays, cameras)

    def patches_of_row(self, row: int, camera: str) -> np.ndarray:
        """Return the patch tokens (P, D) of one camera in one row."""
        columns = self._patch_columns((camera,))
        arrays = self._files.row(row, columns)
        patches: np.ndarray = self._patches(
            {name: values[None] for name, values in arrays.items()}, (camera,)
        )[0, 0]
        return patches

    def patch_blocks(self, cameras: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, patch tokens (n, cameras, P, D)) of all files."""
        for first, arrays in self._files.blocks(self._patch_columns(cameras)):
            yield first, self._patches(arrays, cameras)

    def _patch_columns(self, cameras: Sequence[str]) -> tuple[str, ...]:
        own = tuple(f"{camera}.patch" for camera in cameras)
        if self._is_first and all(name in self._files.columns for name in own):
            return own
        if TOKENS in self._files.columns:
            return (TOKENS,)
        raise InvalidValue(
            f"{self._files.folder} has no patch tokens; accepted: features with tokens, or with "
            "patch"
        )

    def _patches(self, arrays: dict[str, np.ndarray], cameras: Sequence[str]) -> np.ndarray:
        if TOKENS in arrays:
            groups = [self._group(camera, "patch") for camera in cameras]
            return np.stack([arrays[TOKENS][:, g.start : g.stop] for g in groups], axis=1)
        return np.stack([arrays[f"{camera}.patch"] for camera in cameras], axis=1)

    def _columns(self, cameras: Sequence[str]) -> tuple[str, ...]:
        there = self._files.columns
        own = tuple(f"{camera}.cls" for camera in cameras)
        if self._is_first and all(name in there for name in own):
            return own
        if TOKENS in there:
            return (TOKENS,)
        if EMBEDDING in there and self._layout.fusion == "concat":
            return (EMBEDDING,)
        if EMBEDDING in there:
            raise InvalidValue(
                f"{self._files.folder} has only the embedding of a {self._layout.fusion} fusion, "
                "in which the cameras are mixed; accepted: features with cls, tokens, or the "
                "embedding of concat"
            )
        raise InvalidValue(
            f"{self._files.folder} has no CLS vectors"
            f"{f' of {self._encoder}' if self._encoder else ''}; accepted: features with cls, "
            "tokens, or embedding"
        )

    def _taken(self, arrays: dict[str, np.ndarray], cameras: Sequence[str]) -> np.ndarray:
        if TOKENS in arrays:
            rows = [self._group(camera, "cls").start for camera in cameras]
            return arrays[TOKENS][:, rows]
        if EMBEDDING in arrays:
            width = self._layout.width
            parts = [self._place_in_embedding(camera) for camera in cameras]
            embedding = arrays[EMBEDDING]
            return np.stack([embedding[:, p * width : (p + 1) * width] for p in parts], axis=1)
        return np.stack([arrays[f"{camera}.cls"] for camera in cameras], axis=1)

    def _group(self, camera: str, kind: str) -> LayoutGroup:
        return next(g for g in self._newest(kind) if g.source == camera and self._is_own(g))

    def _place_in_embedding(self, camera: str) -> int:
        """Return which of the vectors side by side is that of ``camera``: CLS tokens come first."""
        groups = list(self._newest("cls"))
        return groups.index(self._group(camera, "cls"))

    def _newest(self, kind: str) -> Iterator[LayoutGroup]:
        return (g for g in self._layout.groups if g.kind == kind and g.step == 0)

    def _is_own(self, group: LayoutGroup) -> bool:
        return group.encoder == self._encoder
