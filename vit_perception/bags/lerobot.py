"""LeRobot data sets on disk, versions 2.0, 2.1 and 3.0, read with pyarrow; videos with PyAV.

Layout as written by https://github.com/huggingface/lerobot: ``meta/info.json`` names the features, ``data/`` has a
row a frame in Parquet. Images are encoded files in a column (``bytes``, or a ``path``), or frames of ``videos/``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.bags.embed_sources import SourceResult, compressed_picture, encode_images, files_identity
from vit_perception.bags.lerobot_video import VideoFrames
from vit_perception.bags.replay import Skips
from vit_perception.errors import InvalidValue
from vit_perception.pipeline import Pipeline
from vit_perception.types import NANOSECONDS_PER_SECOND

VERSIONS = ("v2.0", "v2.1", "v3.0")
CARRIED = ("episode_index", "frame_index", "task_index")
BATCH_ROWS = 16


@dataclass(frozen=True)
class LeRobotCamera:
    """One image feature: its key in the data set, the name that its topics would have, and whether it is a video."""

    key: str
    name: str
    is_video: bool


def is_lerobot(path: Path) -> bool:
    """Whether ``path`` is the root of a LeRobot data set."""
    return (path / "meta/info.json").is_file()


class LeRobotSource:
    """Every frame of every episode, in the order of the data files. Raises ValueError for what cannot be read."""

    def __init__(self, root: Path):
        import pyarrow.parquet  # noqa: F401 - the missing package is told before anything starts

        self._root = root
        self._info = json.loads((root / "meta/info.json").read_text())
        version = self._info.get("codebase_version")
        if version not in VERSIONS:
            raise InvalidValue(f"{root}: codebase_version is {version!r}; accepted: {', '.join(VERSIONS)}")
        self._features: dict[str, dict] = self._info["features"]
        self.cameras = tuple(LeRobotCamera(key, _camera_name(key), f["dtype"] == "video")
                             for key, f in self._features.items() if f["dtype"] in ("image", "video"))
        self._files = sorted((root / "data").glob("chunk-*/*.parquet"))
        if not self.cameras or not self._files:
            raise InvalidValue(f"{root} has {len(self.cameras)} image features and {len(self._files)} data files; "
                               "accepted: at least one of each")
        # Vectors of numbers go along: actions and states are what a policy is trained on.
        self._vectors = tuple(key for key, f in self._features.items()
                              if key in CARRIED or f["dtype"] in ("float32", "float64") and key != "timestamp")

    def identity(self) -> dict[str, Any]:
        videos = sorted((self._root / "videos").rglob("*.mp4"))
        return {"kind": "lerobot", "name": self._root.name, "version": self._info["codebase_version"],
                "cameras": {c.name: c.key for c in self.cameras},
                **files_identity(self._root, [self._root / "meta/info.json", *self._files, *videos])}

    def total(self) -> int:
        return int(self._info["total_frames"])

    def results(self, pipeline: Pipeline, first: int) -> Iterator[SourceResult]:
        wanted = {c.name for c in pipeline.settings.cameras}
        cameras = [c for c in self.cameras if c.name in wanted]
        videos = VideoFrames(self._root, self._info) if any(c.is_video for c in cameras) else None
        episode, fps = None, float(self._info["fps"])
        try:
            for index, row in self._rows(first, [c.key for c in cameras if not c.is_video]):
                new_episode, episode = row["episode_index"] != episode, row["episode_index"]
                # Time starts anew with each episode, and a stamp of 0 is none. ``timestamp`` is this in float32.
                stamp_ns = NANOSECONDS_PER_SECOND + round(row["frame_index"] / fps * NANOSECONDS_PER_SECOND)
                messages = {c.name: videos.image(c.key, episode, row["timestamp"], stamp_ns) if c.is_video
                            else self._picture(c, row, stamp_ns) for c in cameras}
                skips = Skips()
                result = encode_images(pipeline, messages, f"{self._root.name} frame {index}", skips)
                yield SourceResult(index, stamp_ns, result, new_episode and row["frame_index"] == 0,
                                   self._extras(row), skips)
        finally:
            if videos is not None:
                videos.close()

    def _rows(self, first: int, image_keys: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow.parquet as pq

        columns = ["timestamp", "episode_index", "frame_index", *image_keys, *self._vectors]
        begin = 0
        for path in self._files:
            with pq.ParquetFile(path) as file:
                rows = file.metadata.num_rows
                if begin + rows > first:
                    index = begin
                    for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns))):
                        if index + len(batch) > first:
                            for k, row in enumerate(batch.to_pylist()):
                                if index + k >= first:
                                    yield index + k, row
                        index += len(batch)
                begin += rows

    def _picture(self, camera: LeRobotCamera, row: dict[str, Any], stamp_ns: int) -> Any:
        cell = row[camera.key]
        data = cell["bytes"] if cell["bytes"] is not None else (self._root / cell["path"]).read_bytes()
        return compressed_picture(stamp_ns, camera.name, data, "")

    def _extras(self, row: dict[str, Any]) -> dict[str, Any]:
        return {key: np.asarray(row[key], np.int64 if key in CARRIED else self._features[key]["dtype"])
                for key in self._vectors}


def _camera_name(key: str) -> str:
    """``observation.images.wrist`` is the camera ``wrist``, ``observation.image`` the camera ``image``."""
    return key.rsplit(".", 1)[-1].replace("-", "_")
