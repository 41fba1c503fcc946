"""Frames of a LeRobot data set's videos by time, decoded in order with PyAV.

Optional: ``pip install av``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vit_perception.datasets.lerobot.files import SetFiles, filled
from vit_perception.datasets.lerobot.info import LeRobotInfo, is_depth_format
from vit_perception.files.bounded_parquet import BoundedParquet
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import open_regular
from vit_perception.image.picture import MAX_COMPRESSED_PX
from vit_perception.wire.records import BadInput, RgbImage

# FFmpeg would take a playlist for a video, and open whatever it names: the container is known from
# the file's own first bytes, the file is opened by us, and there is no protocol by which FFmpeg
# could open another one.
_CONTAINERS = (
    (4, (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"), "mp4"),
    (0, (b"\x1aE\xdf\xa3",), "matroska"),
)
_CLOSED = {"protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}
CODECS = ("av1", "h264", "hevc", "vp9", "vp8", "mpeg4", "mjpeg", "mpeg2video", "mpeg1video", "ffv1")
MOST_SKIPPED_FRAMES = 20_000


@dataclass
class _Open:
    """One video being read."""

    episode: int
    file: BinaryIO
    container: Any
    frames: Iterator[Any]
    # Where the episode begins in the file.
    offset_s: float
    # The frame that was decoded and not asked for yet.
    ahead: Any = None

    def close(self) -> None:
        self.container.close()
        self.file.close()


class VideoFrames:
    """The videos of one data set. Each frame is decoded once if frames are asked for in order."""

    def __init__(self, files: SetFiles, info: LeRobotInfo, keys: list[str]):
        try:
            import av
        except ImportError as error:
            raise ImportError(
                "a LeRobot data set with videos needs PyAV: pip install av"
            ) from error
        if not info.video_path:
            raise InvalidValue(
                f"{files.root} has video features and no video_path; accepted: a template of "
                "their path"
            )
        self._av = av
        self._files = files
        self._info = info
        self._tolerance_s = 0.5 / info.fps
        self._open: dict[str, _Open] = {}
        self._failed: dict[str, tuple[int, BadInput]] = {}
        self._episodes = _v3_episodes(files, keys) if info.version == "v3.0" else None

    def image(self, key: str, episode: int, time_s: float | None, stamp_ns: int) -> RgbImage:
        """Return the frame of video ``key`` at ``time_s`` of ``episode``.

        Raises:
            BadInput: There is no such frame, or it cannot be decoded; the next one may be asked
                for.
        """
        if not isinstance(time_s, int | float) or not math.isfinite(time_s):
            raise BadInput(
                "file",
                f"the row has timestamp {shown(time_s)}; accepted: the time in its video, in s",
            )
        failed = self._failed.get(key)
        if failed is not None and failed[0] == episode:
            raise failed[1]
        opened = self._open.get(key)
        try:
            if opened is None or opened.episode != episode:
                opened = self._start(key, episode, time_s)
            frame = self._frame_at(opened, time_s)
            if is_depth_format(frame.format.name):
                raise BadInput(
                    "depth", f"{key} has pixels of {frame.format.name}; accepted: colour"
                )
            pixels = frame.to_ndarray(format="rgb24")
            return RgbImage(pixels, stamp_ns, key.rsplit(".", 1)[-1])
        except (self._av.FFmpegError, OSError, InvalidValue, ValueError, MemoryError) as error:
            reason = error.reason if isinstance(error, BadInput) else "file"
            bad = BadInput(reason, f"{key}: {error}")
            if key not in self._open or self._open[key].episode != episode:
                self._failed[key] = (episode, bad)  # not opened again for each frame
            raise bad from error

    def pixel_format(self, key: str, episode: int) -> str:
        """Return FFmpeg's name of a video's pixels.

        Raises:
            BadInput: The video cannot be opened.
        """
        try:
            return (
                self._start(key, episode, 0.0).container.streams.video[0].codec_context.format.name
            )
        except (self._av.FFmpegError, OSError, ValueError, AttributeError) as error:
            raise BadInput("file", f"{key}: {error}") from error

    def _frame_at(self, opened: _Open, time_s: float) -> Any:
        for _ in range(MOST_SKIPPED_FRAMES):
            frame = opened.ahead if opened.ahead is not None else next(opened.frames, None)
            opened.ahead = None
            if frame is None:
                break
            if frame.time is None:
                continue
            late_s = frame.time - opened.offset_s - time_s
            if abs(late_s) <= self._tolerance_s:
                return frame
            if late_s > 0:
                opened.ahead = frame  # for one of the next rows
                break
        raise BadInput(
            "frame",
            f"the video has no frame at {opened.offset_s + time_s:.3f} s that can be decoded "
            f"(episode {opened.episode})",
        )

    def _start(self, key: str, episode: int, time_s: float) -> _Open:
        if key in self._open:
            self._open.pop(key).close()
        path, offset_s = self._place(key, episode)
        file = open_regular(path)
        try:
            container = self._av.open(file, format=_container(file, path), options=_CLOSED)
            stream = next(iter(container.streams.video), None)
            codec = stream.codec_context if stream is not None else None
            # There is no codec if FFmpeg does not know it.
            if codec is None or codec.name not in _decoders(CODECS):
                raise BadInput(
                    "file",
                    f"{path.name} holds {codec.name if codec else 'no video that is known'}; "
                    f"accepted: {', '.join(CODECS)}",
                )
            codec.options = {"max_pixels": str(MAX_COMPRESSED_PX), "err_detect": "explode"}
            if codec.width * codec.height > MAX_COMPRESSED_PX:
                raise BadInput(
                    "size",
                    f"{path.name} has frames of {codec.height} x {codec.width} px; accepted: "
                    f"{MAX_COMPRESSED_PX} px in all",
                )
            # To the key frame at or before; frames in between are decoded and ignored.
            at = (offset_s + time_s) / stream.time_base if stream.time_base else 0
            if at > 0:
                container.seek(min(round(at), 1 << 60), stream=stream, backward=True)
        except BaseException:
            file.close()
            raise
        self._failed.pop(key, None)
        self._open[key] = _Open(
            episode=episode,
            file=file,
            container=container,
            frames=self._decoded(container, stream),
            offset_s=offset_s,
        )
        return self._open[key]

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield every complete frame.

        After a packet that cannot be decoded, frames continue at the next key frame.
        """
        whole = True
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError:
                return  # the file ends in the middle
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                whole = False
                continue
            for frame in frames:
                whole = not frame.is_corrupt and (whole or frame.key_frame)
                if whole:
                    yield frame

    def _place(self, key: str, episode: int) -> tuple[Path, float]:
        """Return the file that holds ``episode``, and where the episode begins in it, in s."""
        if self._episodes is None:
            fields = {
                "video_key": key,
                "episode_index": episode,
                "episode_chunk": episode // self._info.chunks_size,
                "chunk_index": episode // self._info.chunks_size,
            }
            return self._files.inside(filled(self._info.video_path, fields)), 0.0
        row = self._episodes.get(episode)
        values = (
            [row.get(f"videos/{key}/{n}") for n in ("chunk_index", "file_index", "from_timestamp")]
            if row
            else []
        )
        if not values or any(v is None for v in values) or not math.isfinite(values[2]):
            raise BadInput(
                "file", f"meta/episodes does not say where episode {episode} lies in its video"
            )
        fields = {
            "video_key": key,
            "chunk_index": values[0],
            "file_index": values[1],
            "episode_index": episode,
        }
        return self._files.inside(filled(self._info.video_path, fields)), float(values[2])

    def close(self) -> None:
        """Close all videos."""
        for opened in self._open.values():
            opened.close()
        self._open = {}


def _decoders(codecs: tuple[str, ...]) -> set[str]:
    """Return the names of these codecs' decoders: AV1 and VP9 have decoders of other names."""
    return {*codecs, "libdav1d", "libaom-av1", "libvpx", "libvpx-vp9"}


def _container(file: BinaryIO, path: Path) -> str:
    head = file.read(16)
    file.seek(0)
    for at, signatures, name in _CONTAINERS:
        if head[at:].startswith(signatures):
            return name
    raise BadInput(
        "file",
        f"{path.name} is neither MP4 nor Matroska, it begins with {head!r}; accepted: these two",
    )


def _v3_episodes(files: SetFiles, keys: list[str]) -> dict[int, dict[str, Any]]:
    """Read where each episode is in its videos, without the statistics stored with it."""
    wanted = {
        "episode_index",
        *(
            f"videos/{key}/{part}"
            for key in keys
            for part in ("chunk_index", "file_index", "from_timestamp")
        ),
    }
    episodes: dict[int, dict[str, Any]] = {}
    for path in files.matching("meta/episodes/chunk-*/*.parquet"):
        with BoundedParquet(path) as file:
            if "episode_index" not in file.schema.names:
                raise InvalidValue(
                    f"{path} has no column episode_index; accepted: what LeRobot writes"
                )
            names = [
                field.name
                for field in file.schema
                if field.name in wanted and str(field.type) in ("int64", "int32", "double", "float")
            ]
            for batch in file.batches(names):
                episodes |= {row["episode_index"]: row for row in batch.to_pylist()}
    return episodes
