"""LeRobot data sets on disk, versions 2.0, 2.1 and 3.0, read with pyarrow; videos with PyAV.

Layout as written by https://github.com/huggingface/lerobot: ``meta/info.json`` names the features,
``data/`` has one row per frame in Parquet. Images are encoded files in a column (``bytes``, or a
``path``), or frames of ``videos/``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vit_perception.datasets.embed_sources import SourceResult, encode_images, files_identity
from vit_perception.datasets.encode_recording import Dropped, PictureChange, SkippedMessages
from vit_perception.datasets.lerobot.columns import NumberColumns
from vit_perception.datasets.lerobot.files import SetFiles
from vit_perception.datasets.lerobot.info import (
    MOST_NUMBERS,
    camera_names,
    is_depth_format,
    is_lerobot,
    read_info,
)
from vit_perception.datasets.lerobot.layout import VERSIONS
from vit_perception.datasets.lerobot.video import VideoFrames
from vit_perception.files.bounded_parquet import BoundedParquet
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import IrregularFile, read_bounded
from vit_perception.image.picture import MAX_PICTURE_BYTES
from vit_perception.image.picture_files import EncodedPicture
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, RgbImage

__all__ = ["VERSIONS", "LeRobotCamera", "LeRobotSource", "is_lerobot"]
_MOST_TIME_NS = ((1 << 31) - 2) * NANOSECONDS_PER_SECOND
_GREY_16_BIT = b"\x10\x00"


@dataclass(frozen=True)
class LeRobotCamera:
    """One image feature."""

    # In the data set.
    key: str
    # In topics and columns.
    name: str
    # Else it is a column of encoded images.
    is_video: bool


class LeRobotSource:
    """Every frame of every episode, in the order of the data files.

    An episode is a run of rows of one ``episode_index``. A frame whose row, image or video cannot
    be read is dropped and counted. Depth features and columns without numbers are left out by name.

    Raises:
        InvalidValue: The data set cannot be read, or has no colour images.
    """

    def __init__(self, root: Path):
        import pyarrow.parquet  # noqa: F401 - a missing package is reported before anything starts

        self._root = root
        self._info = read_info(root)
        self._files = SetFiles(root)
        self._data = self._files.matching("data/chunk-*/*.parquet")
        images = [key for key, feature in self._info.features.items() if feature.is_image]
        if not images or not self._data:
            raise InvalidValue(
                f"{root} has {len(images)} image features and {len(self._data)} data files; "
                "accepted: at least one of each"
            )
        with BoundedParquet(self._data[0]) as file:
            schema = file.schema
        self._left_out: dict[str, tuple[str, str]] = {}
        depth = {
            key: self._info.features[key].depth or self._depth_seen(key, schema) for key in images
        }
        colour = [key for key in images if not depth[key]]
        self._left_out |= {
            key: ("depth feature", f"{key} is depth: {why}") for key, why in depth.items() if why
        }
        if not colour:
            raise InvalidValue(
                f"{root} has depth features alone ({', '.join(images[:4])}); accepted: a colour one"
            )
        names = camera_names(colour)
        self.cameras = tuple(
            LeRobotCamera(key, names[key], self._info.features[key].dtype == "video")
            for key in colour
        )
        # Numbers are kept: a policy is trained on actions and states.
        self._columns = NumberColumns(self._info, schema, list(names.values()))
        self.numbers = self._columns.names
        self._left_out |= {key: ("column", why) for key, why in self._columns.left_out.items()}

    def identity(self) -> dict[str, Any]:
        videos = [p for p in sorted((self._root / "videos").rglob("*.mp4")) if p.is_file()]
        return {
            "kind": "lerobot",
            "name": self._root.name,
            "version": self._info.version,
            "cameras": {c.name: c.key for c in self.cameras},
            **files_identity(self._root, [self._root / "meta/info.json", *self._data, *videos]),
        }

    def total(self) -> int:
        return self._info.total_frames

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        wanted = {c.name for c in pipeline.settings.cameras}
        cameras = [c for c in self.cameras if c.name in wanted]
        keys = [c.key for c in cameras if c.is_video]
        videos = VideoFrames(self._files, self._info, keys) if keys else None
        skips = SkippedMessages()
        episode = None
        period_ns = round(NANOSECONDS_PER_SECOND / self._info.fps)
        pipeline.parts.forget()
        begin = max(0, first - pipeline.history.frames_before(max(1, period_ns)))
        for key, (kind, why) in self._left_out.items() if first == 0 else ():
            skips.add(key, kind, why)
        try:
            # The row before the first one says whether that begins an episode.
            for index, row in self._rows(max(0, begin - 1), cameras):
                new_episode = row["episode_index"] != episode
                episode = row["episode_index"]
                if index < begin:
                    continue
                if new_episode:
                    pipeline.parts.forget()
                stamp_ns = 0
                result = None
                extras = {}
                try:
                    stamp_ns = self._stamp_ns(row)
                    extras = self._columns.of(row)
                    images = {
                        c.name: videos.image(
                            key=c.key,
                            episode=episode,
                            time_s=row.get("timestamp"),
                            stamp_ns=stamp_ns,
                        )
                        if c.is_video
                        else self._picture(c, row[c.key], stamp_ns)
                        for c in cameras
                    }
                except BadInput as error:
                    result = Dropped(error.reason, f"{self._root.name} frame {index}: {error}")
                if result is None:
                    result = encode_images(
                        pipeline=pipeline,
                        images=images,
                        name=f"{self._root.name} frame {index}",
                        skips=skips,
                        change=change and partial(change, index),
                    )
                if index >= first:
                    yield SourceResult(
                        index=index,
                        recorded_ns=stamp_ns,
                        result=result,
                        new_episode=new_episode,
                        extras=extras,
                        skips=skips,
                    )
                skips = SkippedMessages()
        finally:
            if videos is not None:
                videos.close()

    def _stamp_ns(self, row: dict[str, Any]) -> int:
        """Return the stamp of a row: 1 s plus the time in its episode, since 0 is no stamp.

        ``timestamp`` is the time in the episode in float32.

        Raises:
            BadInput: ``column`` or ``stamp``.
        """
        for name in ("episode_index", "frame_index"):
            if not isinstance(row[name], int) or row[name] < 0:
                raise BadInput(
                    "column", f"{name} is {shown(row[name])}; accepted: a whole number from 0"
                )
        # In whole numbers: a frame_index of 2^60 is no reason to lose digits, or to overflow.
        after_ns = row["frame_index"] / self._info.fps * NANOSECONDS_PER_SECOND
        if after_ns > _MOST_TIME_NS:
            raise BadInput(
                "stamp",
                f"frame_index is {row['frame_index']}; accepted: at most 68 years of frames",
            )
        return NANOSECONDS_PER_SECOND + round(after_ns)

    def _rows(
        self, first: int, cameras: list[LeRobotCamera]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        images = [c.key for c in cameras if not c.is_video]
        time = ["timestamp"] if any(c.is_video for c in cameras) else []
        columns = list(
            dict.fromkeys(["episode_index", "frame_index", *time, *images, *self._columns.names])
        )
        begin = 0
        for path in self._data:
            with BoundedParquet(path) as file:
                if missing := [name for name in columns if name not in file.schema.names]:
                    raise InvalidValue(
                        f"{path} has no column {', '.join(missing[:4])}; accepted: those of "
                        "info.json"
                    )
                if begin + file.rows > first:
                    index = begin
                    for batch in file.batches(columns):
                        if index + len(batch) > first:
                            for k in range(len(batch)):
                                if index + k >= first:
                                    yield (
                                        index + k,
                                        {name: _value(batch.column(name)[k]) for name in columns},
                                    )
                        index += len(batch)
                begin += file.rows

    def _picture(self, camera: LeRobotCamera, cell: Any, stamp_ns: int) -> Callable[[], RgbImage]:
        data = self._picture_bytes(cell)
        if _is_grey_16_bit(data):
            raise BadInput("depth", f"camera {camera.name}: a PNG of 16-bit grey; accepted: colour")
        return EncodedPicture(data=data, format="", stamp_ns=stamp_ns, frame_id=camera.name).decoded

    def _picture_bytes(self, cell: Any) -> bytes:
        """Return the encoded image of a cell.

        Raises:
            BadInput: There is none that can be read.
        """
        data, path = (
            (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        )
        if isinstance(data, bytes):
            return data
        if not isinstance(path, str) or not path:
            raise BadInput(
                "file", f"the cell holds {shown(cell)}; accepted: bytes, or the path of a picture"
            )
        try:
            return read_bounded(self._files.inside(path), MAX_PICTURE_BYTES)
        except (InvalidValue, IrregularFile, OSError, ValueError) as error:
            raise BadInput("file", str(error)) from error

    def _depth_seen(self, key: str, schema: Any) -> str:
        """Return why the first frame of a feature is depth; "" if it is colour or unreadable."""
        try:
            names = [key] if self._info.features[key].dtype == "image" else []
            with BoundedParquet(self._data[0]) as file:
                batch = next(file.batches(["episode_index", *names]), None)
            if batch is None or not len(batch):
                return ""
            if names:
                return (
                    "16-bit grey"
                    if _is_grey_16_bit(self._picture_bytes(_value(batch.column(key)[0])))
                    else ""
                )
            videos = VideoFrames(self._files, self._info, [key])
            try:
                pixels = videos.pixel_format(key, batch.column("episode_index")[0].as_py())
            finally:
                videos.close()
            return f"its pixels are {pixels}" if is_depth_format(pixels) else ""
        except (BadInput, ImportError):
            return ""


def _is_grey_16_bit(data: bytes) -> bool:
    """Whether a PNG's header says 16-bit grey: bit depth and colour type follow the size."""
    return data[:4] == b"\x89PNG" and data[24:26] == _GREY_16_BIT


def _value(cell: Any) -> Any:
    """Return a cell of Arrow as a Python value.

    Of a cell with more than a row may hold, only its size is returned, as text.
    """
    import pyarrow as pa

    if not cell.is_valid:
        return None
    if isinstance(cell, pa.StructScalar):
        names = [field.name for field in cell.type]
        return {name: _value(cell[name]) for name in ("bytes", "path") if names.count(name) == 1}
    if isinstance(
        cell, pa.BinaryScalar | pa.LargeBinaryScalar | pa.StringScalar | pa.LargeStringScalar
    ):
        size = cell.as_buffer().size
        if size > MAX_PICTURE_BYTES:
            return f"{size} bytes"
        if isinstance(cell, pa.StringScalar | pa.LargeStringScalar):
            # pyarrow itself would raise for bytes that are not UTF-8.
            return cell.as_buffer().to_pybytes().decode("utf-8", "replace")
    values = getattr(cell, "values", None)
    while values is not None:
        if len(values) > MOST_NUMBERS:
            return f"{len(values)} values"
        values = (
            values.flatten()
            if pa.types.is_nested(values.type) and not pa.types.is_struct(values.type)
            else None
        )
    return cell.as_py()
