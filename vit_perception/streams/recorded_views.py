"""What the network sees of a bag's images: rectified, and cut to the region of interest.

For what reads images of a bag one by one (the calibration of int8, `fit`). The flow itself does it
in :mod:`vit_perception.pipeline.prepare`.
"""

from collections.abc import Sequence
from dataclasses import replace

from vit_perception.config.settings import CameraSettings
from vit_perception.image.camera_info import INFO_TYPE
from vit_perception.image.rectify import Rectifier
from vit_perception.recordings.reader import BagReader
from vit_perception.streams.calibrations import Calibrations
from vit_perception.wire.records import BadInput, RgbImage


class RecordedView:
    """Gives the part of a camera's images that the network sees, as images of their own."""

    def __init__(self, camera: CameraSettings, calibrations: Calibrations):
        self._camera = camera
        self._calibrations = calibrations
        self._rectifier = Rectifier()

    def __call__(self, image: RgbImage) -> RgbImage:
        """Return what is seen of ``image``.

        Raises:
            BadInput: ``no_camera_info`` or ``camera_info``, where it has to be rectified; ``roi``:
                it does not hold the region.
        """
        camera = self._camera
        if camera.rectify:
            calibration = self._calibrations.at({camera.name: image.stamp_ns})[camera.name]
            if isinstance(calibration, BadInput):
                raise calibration
            image = self._rectifier(image, calibration)
        region = camera.region
        if region is None:
            return image
        region.check_inside(image.size)
        rows = slice(region.y, region.y + region.height)
        columns = slice(region.x, region.x + region.width)
        return replace(image, pixels=image.pixels[rows, columns])


def recorded_views(
    cameras: Sequence[CameraSettings], bag: BagReader
) -> dict[str, tuple[RecordedView, ...]]:
    """Return the views of each topic of which a camera rectifies or cuts images, one a camera.

    The CameraInfo messages of ``bag`` are read at once. What cannot be used is passed over.

    Raises:
        BagError: ``bag`` is damaged, or has no CameraInfo that a camera needs.
    """
    there = [camera for camera in cameras if camera.topic in bag.topics]
    calibrations = Calibrations(there)
    infos = dict.fromkeys(calibrations.by_topic, INFO_TYPE)
    for topic, _, message in bag.messages(infos) if infos else ():
        try:
            calibrations.add(calibrations.by_topic[topic], message)
        except BadInput:
            continue
    changed = {camera.topic for camera in there if camera.rectify or camera.roi}
    return {
        topic: tuple(RecordedView(c, calibrations) for c in there if c.topic == topic)
        for topic in sorted(changed)
    }
