"""What `inspect` and `watch` show in the Rerun viewer (https://rerun.io) in the same way.

Optional: ``pip install rerun-sdk``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_perception.files import telemetry
from vit_perception.files.errors import MOST_SHOWN, printable

HAND_AXES_M = 0.1


def rerun_sdk(needed_by: str) -> Any:
    """Import and return the module ``rerun``.

    Raises:
        ImportError: It is not installed; the message has the pip command.
    """
    telemetry.off()
    try:
        import rerun
    except ImportError as error:
        raise ImportError(f"{needed_by} needs rerun-sdk: pip install rerun-sdk") from error
    return rerun


def part(name: str) -> str:
    """Return a stranger's name as one part of an entity's path."""
    return printable(name, MOST_SHOWN, keep="") or "-"


def log_scores(recording: Any, camera: str, scores: Mapping[str, float]) -> None:
    """Log the score of each class of a camera, 0 to 1, as ``<camera>/score/<class>``."""
    import rerun

    for label, score in scores.items():
        # In parts, so that a slash in a label makes no folder.
        recording.log([camera, "score", part(label)], rerun.Scalars(score))


def log_hand(recording: Any, arm: str, position_m: np.ndarray, quaternion_xyzw: np.ndarray) -> None:
    """Log the pose of an arm's hand as ``<arm>/hand``."""
    import rerun

    recording.log(
        [arm, "hand"],
        rerun.Transform3D(translation=position_m, rotation=rerun.Quaternion(xyzw=quaternion_xyzw)),
        rerun.TransformAxes3D(HAND_AXES_M),
    )


def log_path(recording: Any, arm: str, positions_m: np.ndarray, static: bool) -> None:
    """Log where an arm's hand has been, (N, 3), as ``<arm>/path``."""
    import rerun

    recording.log([arm, "path"], rerun.LineStrips3D([positions_m]), static=static)
