"""Import OpenCV for the whole package, with the limits of :mod:`vit_perception.image.picture`.

OpenCV reads its limits from the environment once, when it is loaded. They are a second check of
sizes: OpenCV refuses before it allocates. The environment is restored for child processes and other
readers; limits that the user has set are kept. If OpenCV was imported earlier by others, its own
limits hold (2**30 px).
"""

import os

from vit_perception.image.picture import MAX_COMPRESSED_EDGE_PX, MAX_COMPRESSED_PX

_LIMITS = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": MAX_COMPRESSED_PX,
    "OPENCV_IO_MAX_IMAGE_WIDTH": MAX_COMPRESSED_EDGE_PX,
    "OPENCV_IO_MAX_IMAGE_HEIGHT": MAX_COMPRESSED_EDGE_PX,
}
_ours = {name: str(limit) for name, limit in _LIMITS.items() if name not in os.environ}
os.environ.update(_ours)
import cv2  # noqa: E402

for _name in _ours:
    del os.environ[_name]

__all__ = ["cv2"]
