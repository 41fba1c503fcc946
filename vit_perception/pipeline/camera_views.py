"""What is known of each camera's image besides its tokens, for sources that ask for it."""

from collections.abc import Sequence

from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.image.patches.rays import PatchView
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.encoders import EncoderParts
from vit_perception.pipeline.parts import Parts
from vit_perception.pipeline.prepare import Prepared
from vit_perception.tokens.frame import CameraView
from vit_perception.wire.records import BadInput

_NO_CAMERA_INFO = BadInput("no_camera_info", "the image has no CameraInfo; accepted: one")
_NO_DEPTH = BadInput("no_depth", "the image has no depth image; accepted: one")


def camera_views(
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Sequence[Preprocessor],
    prepared: Prepared,
    wanted: frozenset[str],
) -> dict[str, CameraView]:
    """Return the views of those ``wanted`` cameras that have an image.

    ``preprocess`` is that of each encoder.
    """
    return {
        camera.name: CameraView(
            views=tuple(
                _view(camera, prepared.images[camera.name].size, resize, encoder)
                for encoder, resize in zip(parts.encoders, preprocess, strict=True)
            ),
            calibration=prepared.calibrations.get(camera.name, _NO_CAMERA_INFO),
            depth=prepared.depths.get(camera.name, _NO_DEPTH),
        )
        for camera in settings.cameras
        if camera.name in wanted and camera.name in prepared.images
    }


def _view(
    camera: CameraSettings,
    size_px: tuple[int, int],
    resize: Preprocessor,
    encoder: EncoderParts,
) -> PatchView:
    geometry = PatchGeometry(resize.plan(size_px, camera.region), encoder.patch_size_px)
    return PatchView.of_geometry(geometry, encoder.grid, camera.rectify)
