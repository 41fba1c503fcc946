"""The fields of a LeRobot data set's ``meta/info.json``, checked before anything else is read."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_perception.datasets.lerobot.files import SetFiles
from vit_perception.datasets.lerobot.layout import INFO, VERSIONS
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import read_bounded

MOST_INFO_BYTES = 4 << 20
MOST_FEATURES = 4096
MOST_CAMERAS = 64
MOST_NUMBERS = 1 << 16
MOST_NAME = 200
_FPS = (1e-3, 1e5)
_MOST_COUNT = 1 << 53
_DEPTH_KEYS = ("is_depth_map", "video.is_depth_map")
_PREFIX_WORDS = ("observation", "observations", "images", "image")


@dataclass(frozen=True)
class Feature:
    """One column or camera."""

    # As LeRobot names it.
    dtype: str
    # Of one row.
    shape: tuple[int, ...]
    # Why it is depth; "" if it is not.
    depth: str

    @property
    def is_image(self) -> bool:
        return self.dtype in ("image", "video")


@dataclass(frozen=True)
class LeRobotInfo:
    """The fields of info.json that are used. Each has been checked for type and bounds."""

    # One of VERSIONS, for example ``v3.0``.
    version: str
    # Frames per second of every episode.
    fps: float
    # Of all episodes.
    total_frames: int
    # Episodes per folder of data and videos.
    chunks_size: int
    # The template of a video's path; "" without videos.
    video_path: str
    # By key.
    features: dict[str, Feature]


def is_lerobot(path: Path) -> bool:
    """Whether ``path`` is the root of a LeRobot data set, also of a version that is refused."""
    return any((path / name).exists() for name in (INFO, "meta_data/info.json")) or bool(
        _lance(path)
    )


def read_info(root: Path) -> LeRobotInfo:
    """Read and check ``root/meta/info.json``.

    Raises:
        InvalidValue: A field cannot be used; the message names it.
    """
    if lance := _lance(root):
        raise InvalidValue(
            f"{root} is stored as Lance ({lance}); accepted: a LeRobot data set in Parquet, "
            f"{', '.join(VERSIONS)}"
        )
    path = root / INFO
    if not path.exists():
        raise InvalidValue(
            f"{root} is a LeRobot data set of version 1 (meta_data/info.json); accepted: "
            f"{', '.join(VERSIONS)}: LeRobot's own scripts convert it"
        )
    try:
        info = json.loads(read_bounded(SetFiles(root).inside(INFO), MOST_INFO_BYTES))
    except InvalidValue:
        raise
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise InvalidValue(
            f"{path} is no JSON that can be read ({error}); accepted: what LeRobot writes"
        ) from error
    if not isinstance(info, dict):
        raise InvalidValue(
            f"{path} holds {shown(info)}; accepted: an object with codebase_version, fps and "
            "features"
        )
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise InvalidValue(
            f"{root}: codebase_version is {shown(version)}; accepted: {', '.join(VERSIONS)}"
        )
    for name in ("storage", "storage_format", "data_format"):
        if "lance" in str(info.get(name, ""))[:MOST_NAME].lower():
            raise InvalidValue(f"{root}: {name} is {shown(info[name])}; accepted: Parquet")
    fps = info.get("fps")
    if not _is_number(fps) or not _FPS[0] <= fps <= _FPS[1]:
        raise InvalidValue(f"{path}: fps is {shown(fps)}; accepted: {_FPS[0]:g} to {_FPS[1]:g} Hz")
    video_path = info.get("video_path")
    if video_path is not None and not isinstance(video_path, str):
        raise InvalidValue(f"{path}: video_path is {shown(video_path)}; accepted: a text, or null")
    return LeRobotInfo(
        version=version,
        fps=float(fps),
        total_frames=_count(path, info, "total_frames", 0),
        chunks_size=_count(path, info, "chunks_size", 1),
        video_path=video_path or "",
        features=_features(path, info.get("features")),
    )


def camera_names(keys: Sequence[str]) -> dict[str, str]:
    """Return a name for each image feature: its last word, with earlier ones until it is unique.

    ``observation.images.wrist`` is the camera ``wrist``. Characters that ROS does not accept become
    ``_``. A name that does not begin with a letter gets ``camera_`` in front. Equal names get
    ``_2``, ``_3``.
    """
    words = {
        key: [
            w
            for w in (re.sub(r"[^A-Za-z0-9]+", "_", part).strip("_") for part in key.split("."))
            if w
        ]
        for key in keys
    }
    length = dict.fromkeys(keys, 1)
    while True:
        names = {key: _ros_name(words[key][-length[key] :]) for key in keys}
        same = [
            key
            for key in keys
            if list(names.values()).count(names[key]) > 1
            and length[key] < len(words[key])
            and words[key][-length[key] - 1].lower() not in _PREFIX_WORDS
        ]
        if not same:
            break
        for key in same:
            length[key] += 1
    used: set[str] = set()
    for key in keys:
        base = names[key]
        count = 1
        while names[key] in used:
            count += 1
            names[key] = f"{base}_{count}"
        used.add(names[key])
    return names


def _ros_name(words: list[str]) -> str:
    name = "_".join(words)[-MOST_NAME // 4 :].strip("_")
    return name if name[:1].isalpha() else f"camera_{name}".rstrip("_")


def _features(path: Path, features: Any) -> dict[str, Feature]:
    if not isinstance(features, dict) or len(features) > MOST_FEATURES:
        raise InvalidValue(
            f"{path}: features is {shown(features)}; accepted: an object of at most {MOST_FEATURES}"
        )
    made = {}
    for key, feature in features.items():
        shape = feature.get("shape", [1]) if isinstance(feature, dict) else None
        if (
            not isinstance(feature, dict)
            or not isinstance(feature.get("dtype"), str)
            or len(key) > MOST_NAME
            or not isinstance(shape, list)
            or not all(type(n) is int and n >= 0 for n in shape)
            or len(shape) > 8
        ):
            raise InvalidValue(
                f"{path}: the feature {shown(key)} is {shown(feature)}; accepted: a name of at "
                f"most {MOST_NAME} characters, with a dtype and a shape of whole numbers"
            )
        made[key] = Feature(feature["dtype"][:MOST_NAME], tuple(shape), _depth_of(feature))
    if sum(feature.is_image for feature in made.values()) > MOST_CAMERAS:
        raise InvalidValue(
            f"{path} has more than {MOST_CAMERAS} image features; accepted: at most {MOST_CAMERAS}"
        )
    return made


def _depth_of(feature: dict[str, Any]) -> str:
    for said in (feature, feature.get("info"), feature.get("video_info")):
        if isinstance(said, dict):
            for name in _DEPTH_KEYS:
                if said.get(name) not in (None, False, 0):
                    return f"{name} is {shown(said[name])}"
            pixels = said.get("video.pix_fmt", said.get("pix_fmt"))
            if isinstance(pixels, str) and is_depth_format(pixels):
                return f"its pixels are {shown(pixels)}"
    return ""


def is_depth_format(pixel_format: str) -> bool:
    """Whether FFmpeg's name of a pixel format means one channel of more than 8 bits.

    No colour camera has that.
    """
    return re.match(r"gray(f|9|1\d|32)", pixel_format) is not None


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
    )


def _count(path: Path, info: dict[str, Any], name: str, least: int) -> int:
    value = info.get(name, least)
    if type(value) is not int or not least <= value <= _MOST_COUNT:
        raise InvalidValue(
            f"{path}: {name} is {shown(value)}; accepted: a whole number from {least} to "
            f"{_MOST_COUNT}"
        )
    return value


def _lance(root: Path) -> str:
    """Return the first Lance folder of a data set, relative to ``root``; "" if there is none."""
    for pattern in ("*.lance", "data/*.lance", "data/*/*.lance"):
        for folder in root.glob(pattern):
            return str(folder.relative_to(root))
    return ""
