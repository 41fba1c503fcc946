"""PyAV, which decodes video: optional, ``pip install av``."""

import importlib
from collections.abc import Sequence
from typing import Any

from vit_perception.config.cameras.transports import TRANSPORTS
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.files.errors import OperationFailed
from vit_perception.image.video.colours import heeds_colours

# The decoders of each codec, the first that there is; FFmpeg's own av1 needs a GPU.
_DECODERS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("libdav1d", "libaom-av1"),
}
MISSING = (
    "PyAV, which decodes video, is not installed here ({why}): pip install av; or send the images "
    "as raw or compressed: ros2 run image_transport republish"
)


def av_module() -> Any:
    """Return the module of PyAV.

    Raises:
        OperationFailed: It is not installed, or takes no notice of a stream's colours.
    """
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise OperationFailed(MISSING.format(why=error)) from error
    if not heeds_colours(av):
        raise OperationFailed(
            f"PyAV {av.__version__} does not convert colours as the stream says; accepted: PyAV "
            "12 and newer: pip install 'av>=12'"
        )
    return av


def check_video_library(cameras: Sequence[CameraSettings]) -> None:
    """Check that PyAV is here if one of ``cameras`` sends video.

    Raises:
        BadSetting: It is not; the message names the parameter and what to install.
    """
    for camera in cameras:
        if TRANSPORTS[camera.transport].is_video:
            try:
                av_module()
            except OperationFailed as error:
                raise BadSetting(
                    f"{camera.prefix}transport", camera.transport, f"raw or compressed; {error}"
                ) from error


def new_context(codec: str, max_px: int) -> Any:
    """Return PyAV's decoder for ``codec``, one of packets.CODECS.

    It has one thread and no delay: a picture comes out with its packet wherever the stream allows
    it. What it can tell to be damaged is an error.

    Raises:
        OperationFailed: There is none in this build of FFmpeg.
    """
    av = av_module()
    found = [name for name in _DECODERS[codec] if name in av.codec.codecs_available]
    if not found:
        raise OperationFailed(
            f"PyAV has no decoder for {codec} ({' or '.join(_DECODERS[codec])}); accepted: a "
            "build of PyAV with it, such as that of pip install av"
        )
    context = av.CodecContext.create(found[0], "r")
    context.thread_count = 1
    context.options = {
        "flags": "+low_delay",
        "err_detect": "explode+crccheck",
        "max_pixels": str(max_px),
    }
    return context
