"""Frames of a LeRobot data set's videos by time, decoded in order with PyAV (optional: ``pip install av``)."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vit_perception.errors import InvalidValue
from vit_perception.types import NANOSECONDS_PER_SECOND


class VideoFrames:
    """The videos of one data set. Asked for in the order of recording, each frame is decoded once."""

    def __init__(self, root: Path, info: dict[str, Any]):
        try:
            import av
        except ImportError as error:
            raise ImportError("a LeRobot data set with videos needs PyAV: pip install av") from error
        self._av, self._root, self._info = av, root, info
        self._tolerance_s = 0.5 / float(info["fps"])
        self._open: dict[str, tuple[int, Any, Iterator, float]] = {}
        self._episodes = _v3_episodes(root) if info["codebase_version"] == "v3.0" else None

    def image(self, key: str, episode: int, time_s: float, stamp_ns: int) -> SimpleNamespace:
        """The frame of video ``key`` at ``time_s`` of ``episode``, with the fields of an Image. Raises ValueError."""
        if key not in self._open or self._open[key][0] != episode:
            self._start(key, episode, time_s)
        _, container, frames, offset_s = self._open[key]
        for frame in frames:
            if abs(frame.time - offset_s - time_s) <= self._tolerance_s:
                return _message(frame.to_ndarray(format="rgb24"), stamp_ns, key.rsplit(".", 1)[-1])
            if frame.time - offset_s > time_s:
                break
        raise InvalidValue(f"{container.name} has no frame at {offset_s + time_s:.3f} s (episode {episode})")

    def _start(self, key: str, episode: int, time_s: float) -> None:
        if key in self._open:
            self._open.pop(key)[1].close()
        fields, offset_s = {"episode_index": episode, "episode_chunk": episode // self._info["chunks_size"]}, 0.0
        if self._episodes is not None:
            row = self._episodes[episode]
            offset_s = float(row[f"videos/{key}/from_timestamp"])
            fields = {part: row[f"videos/{key}/{part}"] for part in ("chunk_index", "file_index")}
        path = self._root / self._info["video_path"].format(video_key=key, **fields)
        container = self._av.open(str(path))
        stream = container.streams.video[0]
        # To the key frame at or before; what lies between is decoded and passed over.
        container.seek(max(0, round((offset_s + time_s) / stream.time_base)), stream=stream, backward=True)
        self._open[key] = (episode, container, container.decode(stream), offset_s)

    def close(self) -> None:
        """Close what is open."""
        for _, container, _, _ in self._open.values():
            container.close()
        self._open = {}


def _v3_episodes(root: Path) -> dict[int, dict[str, Any]]:
    """Where each episode lies in its videos; without the statistics that are stored beside."""
    import pyarrow.parquet as pq

    episodes = {}
    for path in sorted((root / "meta/episodes").glob("chunk-*/*.parquet")):
        names = [n for n in pq.read_schema(path).names if n == "episode_index" or n.startswith("videos/")]
        episodes |= {row["episode_index"]: row for row in pq.read_table(path, columns=names).to_pylist()}
    return episodes


def _message(pixels: np.ndarray, stamp_ns: int, frame_id: str) -> SimpleNamespace:
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    height, width = pixels.shape[:2]
    header = SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)
    return SimpleNamespace(header=header, height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width,
                           data=np.ascontiguousarray(pixels).reshape(-1))
