"""The folder of a reference: one safetensors file of float32, and what it belongs to as metadata.

One file, so that a reference is there as a whole or not at all. Its tensors are
``<camera>/<array>``; ``cameras`` in the metadata is JSON with the geometry of each camera.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.config.checks import check_name
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.regular_files import IrregularFile, check_itself
from vit_perception.files.weights import read_weights
from vit_perception.pipeline.monitor.reference import (
    MOST_CAMERAS,
    CameraReference,
    Reference,
    View,
)

FORMAT = "vit_perception.reference"
FORMAT_VERSION = 1
METADATA = "reference"  # the key of the text
FILE_NAME = "reference.safetensors"
# A camera of DINOv2 ViT-S takes 1 MB, one of ViT-g at 518 px 3 MB.
MOST_BYTES = 256 << 20
MOST_TEXT = 1 << 20
_ARRAYS = tuple(f.name for f in fields(CameraReference) if f.name not in ("view", "rotation_gain"))
_ACCEPTED = "a folder of `vit-perception reference`"


def save_reference(folder: Path, reference: Reference) -> None:
    """Write ``reference`` into ``folder``, which is made; a complete file or none."""
    from safetensors.numpy import save

    tensors = {
        f"{name}/{array}": np.ascontiguousarray(getattr(camera, array), np.float32)
        for name, camera in reference.cameras.items()
        for array in _ARRAYS
    }
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder_sha256": reference.encoder_sha256,
        "model": reference.model,
        "cameras": {
            name: {**camera.view._asdict(), "rotation_gain": camera.rotation_gain}
            for name, camera in reference.cameras.items()
        },
    }
    # One text: safetensors writes several in any order, and equal references have equal files.
    metadata = {METADATA: json.dumps(about)}
    content = save(tensors, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE_NAME, lambda partial: partial.write_bytes(content))


def load_reference(folder: str | Path) -> Reference:
    """Read the reference in ``folder``. It takes twice the memory of the file, 512 MiB at most.

    Raises:
        InvalidValue: There is none, or it is damaged; the message names the file and the fault.
    """
    path = Path(folder) / FILE_NAME
    try:
        size = check_itself(path)
    except (OSError, IrregularFile) as error:
        raise InvalidValue(f"{path} cannot be read ({error}); accepted: {_ACCEPTED}") from error
    if size > MOST_BYTES:
        raise InvalidValue(f"{path} has {size} bytes; accepted: up to {MOST_BYTES}")
    file = read_weights(str(path))
    try:
        about = _about(file.metadata.get(METADATA, ""))
        found = about.get("format"), about.get("format_version")
        if found != (FORMAT, FORMAT_VERSION):
            raise InvalidValue(f"it has format {shown(found)}, not {FORMAT} {FORMAT_VERSION}")
        cameras = _cameras(about.get("cameras"), file.tensors)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InvalidValue(f"{path} cannot be used: {error}; accepted: {_ACCEPTED}") from error
    return Reference(
        cameras=cameras,
        encoder_sha256=str(about.get("encoder_sha256", "")),
        model=str(about.get("model", "")),
        sha256=file.sha256,
    )


def _about(text: str) -> dict[str, Any]:
    if not 0 < len(text) <= MOST_TEXT:
        raise InvalidValue(f"its metadata has {len(text)} characters, not 1 to {MOST_TEXT}")
    about = json.loads(text)
    if not isinstance(about, dict):
        raise InvalidValue(f"its metadata is {shown(about)}")
    return about


def _cameras(given: Any, tensors: dict[str, np.ndarray]) -> dict[str, CameraReference]:
    if not isinstance(given, dict) or not 1 <= len(given) <= MOST_CAMERAS:
        raise InvalidValue(f"cameras is {shown(given)}; accepted: 1 to {MOST_CAMERAS} by name")
    expected = {f"{name}/{array}" for name in given for array in _ARRAYS}
    if expected != set(tensors):
        raise InvalidValue(f"it has other tensors than {', '.join(sorted(expected))}")
    return {name: _camera(name, values, tensors) for name, values in given.items()}


def _camera(name: str, values: Any, tensors: dict[str, np.ndarray]) -> CameraReference:
    check_name("cameras", name)
    view = View(
        grid=_pair(values["grid"], int, most=1 << 12),
        patch_size_px=_pair([values["patch_size_px"]] * 2, int, most=1 << 14)[0],
        source_size_px=_pair(values["source_size_px"], int, most=1 << 16),
        scale=_pair(values["scale"], float, most=1e4),
        offset_px=_pair(values["offset_px"], float, low=-1e6, most=1e6),
        rectified=bool(values["rectified"]),
    )
    arrays = {array: tensors[f"{name}/{array}"] for array in _ARRAYS}
    arrays["static"] = arrays["static"] > 0
    return CameraReference(view=view, rotation_gain=float(values["rotation_gain"]), **arrays)


def _pair(values: Any, kind: type, most: float, low: float = 1e-4) -> Any:
    """Return two numbers of ``kind`` from ``low`` to ``most``."""
    first, second = values
    for value in (first, second):
        is_kind = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_kind or (kind is int and int(value) != value) or not low <= value <= most:
            raise InvalidValue(f"{shown(values)} in cameras; accepted: {low:g} to {most:g}")
    return kind(first), kind(second)
