"""The pictures that were encoded, kept as PNG files until they go into the data set.

They are what the network saw before it was resized: rectified, and changed where the source is an
augmented repeat.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.datasets.embed_sources import PictureChange, Source, SourceResult
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.image.opencv import cv2
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import RgbImage

# A quick one: the files are read once again.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# LeRobot's own choices for videos, and a codec that every reader has.
_CODEC, _PIXELS = "libx264", "yuv420p"
_VIDEO_OPTIONS = {"crf": "18", "g": "2", "preset": "veryfast"}


def picture_path(folder: Path, source: int, camera: str, index: int) -> Path:
    """Return where the picture of a camera is kept, of result ``index`` of a source."""
    return folder / f"{source:06d}" / camera / f"{index:06d}.png"


@dataclass(frozen=True)
class KeptPictures:
    """A source that writes every picture that is encoded to ``folder``."""

    source: Source
    folder: Path
    # The source's number among all.
    number: int

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def total(self) -> int:
        return self.source.total()

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        def kept(index: int, camera: str, image: RgbImage) -> RgbImage:
            if change is not None:
                image = change(index, camera, image)
            path = picture_path(self.folder, self.number, camera, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            data = png_of(image.pixels)
            write_whole(path, lambda file: file.write_bytes(data))
            return image

        yield from self.source.results(pipeline, first, kept)


def png_of(pixels: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 RGB as a PNG file."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]), _PNG)
    if not done:
        raise ValueError(f"OpenCV wrote no PNG of {pixels.shape}")
    return data.tobytes()


def pixels_of(path: Path) -> np.ndarray:
    """Return a kept picture, (H, W, 3) uint8 RGB.

    Raises:
        InvalidValue: It is missing or damaged.
    """
    data = path.read_bytes() if path.exists() else b""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise InvalidValue(
            f"{path} is missing or damaged; accepted: the folder as it was left, or a new one"
        )
    return pixels[:, :, ::-1]


class VideoFile:
    """One MP4 file of several episodes, one after the other.

    Raises:
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]):
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        rate = Fraction(fps).limit_denominator(1000)
        self._stream = self._container.add_stream(_CODEC, rate, options=_VIDEO_OPTIONS)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = _PIXELS
        self._path = path
        self.fps = fps
        self.frames = 0

    def add(self, pixels: np.ndarray) -> None:
        """Add one frame."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    @property
    def end_s(self) -> float:
        """When the frames so far end."""
        return self.frames / self.fps

    def close(self) -> Mapping[str, Any]:
        """Finish the file and return what LeRobot says of it in info.json."""
        self._container.mux(self._stream.encode())
        self._container.close()
        return {
            "video.height": self._stream.height,
            "video.width": self._stream.width,
            "video.codec": "h264",
            "video.pix_fmt": _PIXELS,
            "video.is_depth_map": False,
            "video.fps": self.fps,
            "video.channels": 3,
            "has_audio": False,
        }
