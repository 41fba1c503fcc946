"""What a CameraInfo beside a camera's images says of rectifying them. Plain values, no ROS."""

from collections.abc import Sequence

from vit_perception.config.cameras.transports import info_topic_of, without_transport
from vit_perception.image.camera_info import INFO_TYPE, Calibration
from vit_perception.ros.suggest.seen import TopicSeen
from vit_perception.ros.suggest.timing import Setting

# Smaller coefficients move no pixel by a thousandth of one.
_NO_DISTORTION = 1e-6


def lens_settings(
    name: str, topic: TopicSeen, infos: Sequence[TopicSeen]
) -> tuple[list[Setting], list[str]]:
    """Return the parameters of the camera called ``name`` that rectify its images, and notes.

    ``topic`` has its images, ``infos`` are the CameraInfo topics that were seen. Images that are
    rectified already, or whose lens has no distortion, need nothing.
    """
    info = _info_of(topic, infos)
    last = without_transport(topic.name).rpartition("/")[2]
    if info is None or last.startswith("image_rect"):
        return [], []
    calibration = info.calibration
    if calibration is None:
        why = info.refused or "no message came"
        return [], [f"{info.name} cannot be used to rectify: {why}"]
    if not _is_distorted(calibration):
        return [], []
    if not _fits(topic, calibration):
        height, width = calibration.size_px
        return [], [f"{info.name} is for {width}×{height} px, so it cannot rectify these images"]
    prefix = f"cameras.{name}"
    from_topic = Setting(
        f"{prefix}.camera_info_topic",
        info.name.removeprefix("/"),
        f"published by {'; '.join(info.publishers)}",
    )
    rectify = Setting(
        f"{prefix}.rectify",
        True,
        f"it says that the lens has distortion ({calibration.model}); false if your policy was "
        "trained with images as they come",
    )
    return [from_topic, rectify], []


def _info_of(topic: TopicSeen, infos: Sequence[TopicSeen]) -> TopicSeen | None:
    """Return the CameraInfo beside the images of ``topic``, or else the only one of their frame and
    size.
    """
    of_type = [info for info in infos if info.type == INFO_TYPE]
    beside = next((info for info in of_type if info.name == info_topic_of(topic.name)), None)
    if beside is not None:
        return beside
    same = [
        info
        for info in of_type
        if info.calibration is not None
        and info.frame_id
        and info.frame_id == topic.frame_id
        and _fits(topic, info.calibration)
    ]
    return same[0] if len(same) == 1 else None


def _fits(topic: TopicSeen, calibration: Calibration) -> bool:
    height, width = calibration.size_px
    return topic.picture.startswith(f"{width}×{height} ")


def _is_distorted(calibration: Calibration) -> bool:
    moves = any(abs(number) > _NO_DISTORTION for number in calibration.distortion)
    return moves or calibration.model == "equidistant"
