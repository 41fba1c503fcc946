"""Features of one or several folders of `embed` as one list of frames, of one encoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.datasets.search.stored_vectors import StoredVectors, encoders_of, unit_rows
from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.policy.dataset import check_one_meaning
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.layout import Layout, LayoutCamera
from vit_perception.wire.layout_encoders import LayoutEncoder


@dataclass(frozen=True)
class FrameName:
    """What a frame is called for people, and where it comes from."""

    # Name of the recording, as the manifest has it.
    source: str
    # Of the frame's first camera, in ns.
    stamp_ns: int
    # Seconds since the recording's first frame in the features.
    time_s: float
    # From 0, over all folders.
    episode: int


class FeatureSet:
    """Frames of finished folders of `embed`, numbered from 0 over all of them.

    ``cameras`` are those that are searched, by default all; ``encoder`` is the name of one of
    several encoders. Memory: 48 bytes a frame. Vectors are read in blocks when they are needed.

    Raises:
        InvalidValue: A folder is no finished output of `embed`, is damaged, or does not belong to
            the others; a camera or an encoder is not in it, or is not said where there are several.
    """

    def __init__(self, folders: Sequence[Path], cameras: Sequence[str] = (), encoder: str = ""):
        self.folders = tuple(_opened(folder) for folder in folders)
        self.layout: Layout = self.folders[0].layouts[0]
        self.encoder = _chosen_encoder(self.folders[0].folder, self.layout, encoder)
        self.encoder_sha256 = encoder_fields(self.layout, self.encoder).encoder_sha256
        self.model = encoder_fields(self.layout, self.encoder).model
        for files in self.folders[1:]:
            self._check_belongs(files)
        self.all_cameras = tuple(camera.name for camera in self.layout.cameras)
        for name in cameras:
            if name not in self.all_cameras:
                raise InvalidValue(
                    f" is {name!r}; the features have {', '.join(self.all_cameras)}",
                    argument="camera",
                    hint=nearest(name, self.all_cameras),
                )
        self.cameras = tuple(c for c in self.all_cameras if not cameras or c in cameras)
        self._vectors = [StoredVectors(files, self.encoder) for files in self.folders]
        self.starts = np.cumsum([0, *map(len, self.folders)])
        self.stamp_ns = np.concatenate([files.stamp_ns for files in self.folders])
        self.episode, self._sources = self._numbered()
        self.source_names = [s["name"] for f in self.folders for s in f.manifest["run"]["sources"]]
        starts = np.flatnonzero(np.diff(self._sources, prepend=-1))
        self._first_ns = dict(zip(self._sources[starts].tolist(), self.stamp_ns[starts].tolist()))

    def _check_belongs(self, files: FeatureFiles) -> None:
        """Check that features of another folder can be compared with those of the first."""
        layout = files.layouts[0]
        encoder = _chosen_encoder(files.folder, layout, self.encoder)
        found = encoder_fields(layout, encoder).encoder_sha256
        if found != self.encoder_sha256:
            raise InvalidValue(
                f"{files.folder} is of encoder {found[:16]} and {self.folders[0].folder} of "
                f"{self.encoder_sha256[:16]}; accepted: folders of one encoder, whose vectors can "
                "be compared"
            )
        named = [camera.name for camera in layout.cameras]
        first = [camera.name for camera in self.layout.cameras]
        if named != first:
            raise InvalidValue(
                f"{files.folder} has the cameras {', '.join(named)} and {self.folders[0].folder} "
                f"{', '.join(first)}; accepted: folders with the same cameras"
            )

    def _numbered(self) -> tuple[np.ndarray, np.ndarray]:
        """Return episodes and sources of all frames, numbered over all folders."""
        episodes: list[np.ndarray] = []
        sources: list[np.ndarray] = []
        first_episode = first_source = 0
        for files in self.folders:
            episodes.append(files.episode + first_episode)
            first_episode = int(episodes[-1].max(initial=first_episode - 1)) + 1
            shards = files.manifest["shards"]
            of_shards = [shard["source"] + first_source for shard in shards]
            sources.append(np.repeat(of_shards, [shard["frames"] for shard in shards]))
            first_source += len(files.manifest["run"]["sources"])
        return np.concatenate(episodes), np.concatenate(sources).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def width(self) -> int:
        """The width of a vector."""
        return self.layout.width

    def where(self, frame: int) -> tuple[FeatureFiles, int]:
        """Return the folder of a frame, and its row there."""
        folder = int(np.searchsorted(self.starts, frame, side="right")) - 1
        return self.folders[folder], frame - int(self.starts[folder])

    def name_of(self, frame: int) -> FrameName:
        """Return what ``frame`` is called."""
        source = int(self._sources[frame])
        stamp_ns = int(self.stamp_ns[frame])
        return FrameName(
            source=self.source_names[source],
            stamp_ns=stamp_ns,
            time_s=(stamp_ns - self._first_ns[source]) / 1e9,
            episode=int(self.episode[frame]),
        )

    def source_number(self, frame: int) -> int:
        """Return the number of the recording that ``frame`` is of, over all folders."""
        return int(self._sources[frame])

    def source_of(self, frame: int) -> dict[str, Any]:
        """Return what the manifest says of the recording that ``frame`` is of."""
        files, _ = self.where(frame)
        folder = self.folders.index(files)
        before = sum(len(f.manifest["run"]["sources"]) for f in self.folders[:folder])
        source: dict[str, Any] = files.manifest["run"]["sources"][self._sources[frame] - before]
        return source

    def frames_of(self, source: str) -> np.ndarray:
        """Return the frames of the recordings called ``source``, in order; there may be none."""
        numbers = [k for k, name in enumerate(self.source_names) if name == source]
        return np.flatnonzero(np.isin(self._sources, numbers))

    def layout_of(self, frame: int) -> Layout:
        """Return the layout of ``frame``."""
        files, row = self.where(frame)
        return files.layouts[int(files.layout_index[row])]

    def camera_of(self, frame: int, camera: str) -> LayoutCamera:
        """Return what the layout of ``frame`` says of ``camera``."""
        return next(c for c in self.layout_of(frame).cameras if c.name == camera)

    def vectors(self, frame: int, cameras: Sequence[str] = ()) -> np.ndarray:
        """Return the unit CLS vectors (cameras, D) of one frame; of a missing camera zeros."""
        files, row = self.where(frame)
        stored = self._vectors[self.folders.index(files)]
        return unit_rows(stored.of_row(row, tuple(cameras) or self.cameras))

    def patches(self, frame: int, camera: str) -> np.ndarray:
        """Return the unit patch tokens (P, D) of one frame; zeros if the camera is missing.

        Raises:
            InvalidValue: The features have no patch tokens.
        """
        files, row = self.where(frame)
        return unit_rows(self._vectors[self.folders.index(files)].patches_of_row(row, camera))

    def blocks(self, cameras: Sequence[str] = ()) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first frame, unit CLS vectors (n, cameras, D) float32) of all frames, in order."""
        for start, stored in zip(self.starts, self._vectors):
            for first, vectors in stored.blocks(tuple(cameras) or self.cameras):
                yield int(start) + first, unit_rows(vectors)

    def shard_blocks(
        self, folder: int, shard: int, cameras: Sequence[str]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield as :meth:`blocks` of one file alone."""
        for first, vectors in self._vectors[folder].blocks(tuple(cameras), shard):
            yield int(self.starts[folder]) + first, unit_rows(vectors)

    def patch_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first frame, unit patch tokens (n, cameras, P, D)) of all frames, in order.

        Raises:
            InvalidValue: The features have no patch tokens.
        """
        for start, stored in zip(self.starts, self._vectors):
            for first, tokens in stored.patch_blocks(self.cameras):
                yield int(start) + first, unit_rows(tokens)


def encoder_fields(layout: Layout, encoder: str) -> "Layout | LayoutEncoder":
    """Return what has the model and the digests of ``encoder``: the layout, if there is one."""
    return next((e for e in layout.encoders if e.name == encoder), layout)


def _opened(folder: Path) -> FeatureFiles:
    files = FeatureFiles(folder)
    if not len(files):
        raise InvalidValue(f"{folder} has no frames; accepted: features of at least one")
    check_one_meaning(files)
    for shard in files.manifest["shards"]:
        path = files.folder / shard["file"]
        if path.stat().st_size != shard["size_bytes"]:
            raise InvalidValue(
                f"{path} has {path.stat().st_size} bytes; accepted: {shard['size_bytes']}, as the "
                "manifest says"
            )
    return files


def _chosen_encoder(folder: Path, layout: Layout, encoder: str) -> str:
    names = encoders_of(layout)
    if not encoder and len(names) == 1:
        return names[0]
    if encoder in names:
        return encoder
    if not encoder:
        raise InvalidValue(
            f" is not given, and {folder} has tokens of {', '.join(names)}; accepted: one of them",
            argument="encoder",
        )
    there = ", ".join(filter(None, names)) or f"one encoder without a name, of {layout.model}"
    raise InvalidValue(
        f" is {encoder!r}, and {folder} has {there}; accepted: "
        f"{'one of them' if layout.encoders else 'without it'}",
        argument="encoder",
        hint=nearest(encoder, names),
    )
