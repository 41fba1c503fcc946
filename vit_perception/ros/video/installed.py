"""Whether the message packages of video are installed."""

from collections.abc import Sequence

from vit_perception.config.cameras.transports import TRANSPORTS
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.ros.messages import class_of


def missing_messages(transport: str) -> str:
    """Return what to install to receive ``transport``; "" where nothing is missing."""
    row = TRANSPORTS[transport]
    try:
        class_of(row.type)
    except (ImportError, AttributeError) as error:
        return (
            f"{row.type} is not installed here ({error}): apt install {row.debian_package}; or "
            "send the images as raw or compressed: ros2 run image_transport republish"
        )
    return ""


def check_video_messages(cameras: Sequence[CameraSettings]) -> None:
    """Check that the messages of each camera's video are installed.

    Raises:
        BadSetting: They are not; the message names the parameter and the package.
    """
    for camera in cameras:
        if missing := missing_messages(camera.transport):
            raise BadSetting(
                f"{camera.prefix}transport", camera.transport, f"raw or compressed; {missing}"
            )
