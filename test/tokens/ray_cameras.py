"""A camera whose patches have rays that are easy to say, and where it is mounted.

The network sees 56 × 56 px of the image, not resized: patches of 14 px, 4 × 4 of them. With this
focal length, patch (row, column) looks along (column, row, 1).
"""

import math

import numpy as np

from test.image.camera_infos import camera_info
from test.plain_messages import image_message
from vit_perception.config.ray_settings import RaySettings
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
)
from vit_perception.image.camera_info import calibration_of
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import MISSING, Pose, SampleAtImage

STAMP_NS = 7_000_000_000
SIZE_PX = (80, 100)
ROI = (20, 10, 56, 56)
K = [14.0, 0, 26.5, 0, 14, 16.5, 0, 0, 1]
P = [14.0, 0, 26.5, 0, 0, 14, 16.5, 0, 0, 0, 1, 0]
PLAIN = {"size_px": SIZE_PX, "d": np.zeros(0), "k": np.array(K), "p": np.array(P)}
CALIBRATION = calibration_of(camera_info(**PLAIN))
# Half a turn about x: y and z point the other way.
EXTRINSIC = {"translation_m": (0.1, 0.0, 0.2), "quaternion_xyzw": (1.0, 0.0, 0.0, 0.0)}
# A quarter about z: x becomes y.
QUARTER = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
POSE = Pose(np.array([1.0, 0.0, 0.5]), np.array(QUARTER), STAMP_NS, "base")
THERE = {"arm": SampleAtImage(POSE, "interpolated", 0)}
GONE = {"arm": MISSING}
MOUNTED = RaySettings("looks", "wrist", pose="arm", **EXTRINSIC)
FIXED = RaySettings("looks", "wrist", base_frame="table", **EXTRINSIC)


def numbers_of(row: int, column: int, moves: bool) -> np.ndarray:
    """The six numbers of a patch, worked out by hand.

    Fixed: (column, row, 1) turned by half about x is (column, -row, -1), and the camera is at
    (0.1, 0, 0.2). Moved: turned by a quarter about z as well it is (row, column, -1), and the
    camera is at (0, 0.1, 0.2) + (1, 0, 0.5) = (1, 0.1, 0.7).
    """
    if moves:
        direction = (row, column, -1)
        moment = (-0.1 - 0.7 * column, 0.7 * row + 1, column - 0.1 * row)
    else:
        direction = (column, -row, -1)
        moment = (0.2 * row, 0.1 + 0.2 * column, -0.1 * row)
    return np.array([*direction, *moment]) / math.sqrt(row**2 + column**2 + 1)


def every_number(moves: bool) -> np.ndarray:
    return np.array([numbers_of(row, column, moves) for row in range(4) for column in range(4)])


def settings_of(checkpoint, rays=MOUNTED, more=(), camera=None, **settings) -> EncoderSettings:
    given = {"roi": ROI} | (camera or {})
    return EncoderSettings(
        (CameraSettings("wrist", "/wrist/image", **given),),
        poses=(PoseSettings("arm", "/ee_pose", "base"),),
        model=ModelSettings(str(checkpoint), more_checkpoints=tuple(map(str, more))),
        engine=EngineSettings("torch", "float32"),
        extra={"rays": (rays,) if isinstance(rays, RaySettings) else tuple(rays)},
        **settings,
    )


def opened(*arguments, **settings) -> Pipeline:
    return Pipeline.open(settings_of(*arguments, **settings))


def run(pipeline, samples=THERE, calibration=CALIBRATION, message=None, **beside):
    message = image_message(STAMP_NS, size_px=SIZE_PX) if message is None else message
    calibrations = {} if calibration is None else {"wrist": calibration}
    prepared = pipeline.prepare({"wrist": message}, calibrations=calibrations, **beside)
    return pipeline.assemble(prepared, pipeline.encode(prepared), samples)
