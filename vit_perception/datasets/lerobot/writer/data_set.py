"""Writes the files of a LeRobot data set: frames, pictures, statistics, episodes, tasks."""

from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.datasets.lerobot import layout
from vit_perception.datasets.lerobot.writer import pictures, tables
from vit_perception.datasets.lerobot.writer.data_files import DataFiles
from vit_perception.datasets.lerobot.writer.frames import Frames
from vit_perception.datasets.lerobot.writer.options import LeRobotOptions
from vit_perception.datasets.lerobot.writer.statistics import (
    STEP_PX,
    Statistics,
    of_pictures,
    of_values,
    together,
)
from vit_perception.datasets.lerobot.writer.tables import Written
from vit_perception.files.errors import InvalidValue
from vit_perception.policy.features import REPEAT, FeatureFiles

TOKENS, MASK = "observation.tokens", "observation.mask"
STAMP = "stamp_ns"
# Pictures of an episode that its statistics are made of.
_MOST_LOOKED_AT = 50
# Frames that are in memory at once.
_BLOCK_BYTES = 32 << 20


class DataSet:
    """One data set being written to the folder ``out``.

    ``kept`` has the pictures.
    """

    def __init__(
        self, files: FeatureFiles, frames: Frames, out: Path, kept: Path, lerobot: LeRobotOptions
    ):
        self._files = files
        self._frames = frames
        self._out = out
        self._kept = kept
        self._tokens = lerobot.tokens
        sources = files.manifest["run"]["sources"]
        repeats = 1 + max((s.get(REPEAT, {}).get("repeat", 0) for s in sources), default=0)
        of_source = [lerobot.task_of(k, len(sources) // repeats) for k in range(len(sources))]
        self._tasks = list(dict.fromkeys(of_source))
        self._task_index = [self._tasks.index(task) for task in of_source]
        self._source = files.column("source")
        self._index = files.column("index")
        self._cameras = [camera.name for camera in files.layouts[0].cameras]
        self._features = self._own_features(lerobot.pictures) | tables.COMMON
        self._row_bytes = sum(f.bytes for f in self._features.values())
        self._block = max(1, _BLOCK_BYTES // self._row_bytes)
        self._videos: dict[str, pictures.VideoFile] = {}
        self._video_files = dict.fromkeys(self._video_keys, 0)
        self._video_info: dict[str, Any] = {}

    @property
    def _video_keys(self) -> list[str]:
        return [key for key, feature in self._features.items() if feature.dtype == "video"]

    def _own_features(self, kind: str) -> dict[str, Written]:
        files, frames = self._files, self._frames
        first = files.row(int(frames.episodes[0][0]), self._stored())
        found = {layout.ENVIRONMENT_STATE: Written("float32", first["embedding"].shape)}
        for key, values, names in (
            (layout.STATE, frames.state, frames.state_names),
            (layout.ACTION, frames.action, frames.action_names),
        ):
            if values is not None:
                found[key] = Written("float32", (values.shape[1],), names)
        if self._tokens:
            tokens = first["tokens"]
            # Without statistics LeRobot hands them on as they are; it cannot normalise booleans.
            found[TOKENS] = Written(str(tokens.dtype), tokens.shape, None, False)
            found[MASK] = Written("bool", first["mask"].shape, None, False)
        found[STAMP] = Written("int64", (1,))
        if REPEAT in files.columns and files.repeat.any():
            found[REPEAT] = Written("int64", (1,))
        for name in self._cameras if kind != "none" else ():
            size = self._picture(int(frames.episodes[0][0]), name).shape
            names = ["height", "width", "channels"]
            found[layout.IMAGES + name] = Written(kind.removesuffix("s"), size, names)
            if kind == "videos" and (size[0] % 2 or size[1] % 2):
                raise InvalidValue(
                    f" is videos, and camera {name} has {size[1]} x {size[0]} px; accepted: even "
                    "numbers, or images",
                    argument="images",
                )
        return found

    def _stored(self) -> tuple[str, ...]:
        return ("embedding", *(("tokens", "mask") if self._tokens else ()))

    def _picture(self, row: int, camera: str) -> np.ndarray:
        place = (int(self._source[row]), camera, int(self._index[row]))
        return pictures.pixels_of(pictures.picture_path(self._kept, *place))

    def write(self) -> dict[str, Any]:
        """Write all files; return the counts."""
        episodes: list[dict[str, Any]] = []
        parts: list[dict[str, Statistics]] = []
        data = DataFiles(self._out, self._features)
        first = 0
        for number, rows in enumerate(self._frames.episodes):
            place = data.begin(len(rows) * self._row_bytes)
            seen: dict[str, list[Any]] = {key: [] for key in self._features}
            videos = {k: v for key in self._video_keys for k, v in self._video_place(key).items()}
            for begin in range(0, len(rows), self._block):
                block = rows[begin : begin + self._block]
                values = self._values(number, block, first, begin)
                self._add_pictures(block, begin, len(rows), values, seen)
                data.add(values)
                for key, feature in self._features.items():
                    if feature.has_statistics and not feature.is_picture:
                        seen[key] += values[key]
            for key in self._video_keys:
                videos[f"videos/{key}/to_timestamp"] = self._videos[key].end_s
            parts.append(
                {
                    key: of_pictures(seen[key], len(rows))
                    if feature.is_picture
                    else of_values(np.stack([np.asarray(value) for value in seen[key]]))
                    for key, feature in self._features.items()
                    if feature.has_statistics
                }
            )
            episodes.append(
                {
                    layout.EPISODE_INDEX: number,
                    "tasks": [self._tasks[self._task_index[int(self._source[rows[0]])]]],
                    "length": len(rows),
                    "data/chunk_index": place[0],
                    "data/file_index": place[1],
                    "dataset_from_index": first,
                    "dataset_to_index": first + len(rows),
                    **videos,
                    **tables.flat(parts[-1]),
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            first += len(rows)
        data.close()
        for key in list(self._videos):
            self._close_video(key)
        return self._write_meta(episodes, parts)

    def _write_meta(
        self, episodes: list[dict[str, Any]], parts: list[dict[str, Statistics]]
    ) -> dict[str, Any]:
        place = {"chunk_index": 0, "file_index": 0}
        tables.write_episodes(self._out / layout.EPISODES.format(**place), episodes)
        tables.write_tasks(self._out / layout.TASKS, self._tasks)
        whole = {key: together([part[key] for part in parts]) for key in parts[0]}
        tables.write_json(self._out / layout.STATISTICS, whole)
        counts = {
            "total_episodes": len(episodes),
            "total_frames": sum(episode["length"] for episode in episodes),
            "total_tasks": len(self._tasks),
        }
        info = {
            "codebase_version": layout.WRITTEN_VERSION,
            "robot_type": None,
            **counts,
            "chunks_size": layout.FILES_IN_A_CHUNK,
            "data_files_size_in_mb": layout.MOST_DATA_FILE_MB,
            "video_files_size_in_mb": layout.MOST_VIDEO_FILE_MB,
            "fps": self._frames.fps,
            "splits": {"train": f"0:{len(episodes)}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEOS if self._video_keys else None,
            "features": tables.in_info(self._features, self._video_info),
        }
        tables.write_json(self._out / layout.INFO, info)
        return {**counts, "fps": self._frames.fps, "features": list(self._features)}

    def _values(
        self, number: int, rows: np.ndarray, first: int, begin: int
    ) -> dict[str, list[Any]]:
        """Return the values of some frames of an episode by feature, without pictures.

        ``first`` is the number of the episode's first frame among all, and ``begin`` that of
        ``rows[0]`` in the episode.
        """
        frames = self._frames
        values: dict[str, list[Any]] = {}
        stored = [self._files.row(int(row), self._stored()) for row in rows]
        values[layout.ENVIRONMENT_STATE] = [row["embedding"] for row in stored]
        if self._tokens:
            values[TOKENS] = [row["tokens"] for row in stored]
            values[MASK] = [row["mask"] for row in stored]
        if frames.state is not None:
            values[layout.STATE] = list(frames.state[rows])
        if frames.action is not None:
            values[layout.ACTION] = list(frames.action[rows])
        place = np.arange(begin, begin + len(rows))
        values[STAMP] = list(self._files.stamp_ns[rows])
        values[REPEAT] = list(self._files.repeat[rows])
        values[layout.TIMESTAMP] = list((place / frames.fps).astype(np.float32))
        values[layout.FRAME_INDEX] = list(place)
        values[layout.EPISODE_INDEX] = [number] * len(rows)
        values[layout.INDEX] = list(first + place)
        values[layout.TASK_INDEX] = [self._task_index[int(self._source[k])] for k in rows]
        return values

    def _add_pictures(
        self,
        rows: np.ndarray,
        begin: int,
        length: int,
        values: dict[str, list[Any]],
        seen: dict[str, list[Any]],
    ) -> None:
        """Put pictures of ``rows`` into ``values`` or into videos, and some into ``seen``."""
        looked_at = set(np.linspace(0, length - 1, _MOST_LOOKED_AT).round().astype(int))
        for camera in self._cameras:
            key = layout.IMAGES + camera
            if key not in self._features:
                continue
            feature = self._features[key]
            values[key] = []
            for place, row in enumerate(rows, begin):
                pixels = self._picture(int(row), camera)
                if pixels.shape != feature.shape:
                    raise InvalidValue(
                        f"camera {camera} has pictures of {pixels.shape[1]} x {pixels.shape[0]} px "
                        f"and of {feature.shape[1]} x {feature.shape[0]}; accepted: one size in a "
                        "data set with pictures"
                    )
                if feature.dtype == "video":
                    self._videos[key].add(pixels)
                else:
                    values[key].append(pictures.png_of(pixels))
                if place in looked_at:
                    seen[key].append(pixels[::STEP_PX, ::STEP_PX].copy())

    def _video_place(self, key: str) -> dict[str, Any]:
        """Return where the next episode's video begins; a file that is full is closed."""
        path = self._video_path(key)
        if key in self._videos and path.stat().st_size >= layout.MOST_VIDEO_FILE_MB << 20:
            self._close_video(key)
            self._video_files[key] += 1
            path = self._video_path(key)
        if key not in self._videos:
            size = self._features[key].shape[:2]
            self._videos[key] = pictures.VideoFile(path, self._frames.fps, (size[0], size[1]))
        chunk, file = divmod(self._video_files[key], layout.FILES_IN_A_CHUNK)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": self._videos[key].end_s,
        }

    def _video_path(self, key: str) -> Path:
        chunk, file = divmod(self._video_files[key], layout.FILES_IN_A_CHUNK)
        place = {"video_key": key, "chunk_index": chunk, "file_index": file}
        return self._out / layout.VIDEOS.format(**place)

    def _close_video(self, key: str) -> None:
        self._video_info[key] = self._videos.pop(key).close()
