"""The check of a camera's region of interest."""

from collections.abc import Sequence

from vit_perception.config.checks import BadSetting

LONGEST_EDGE_PX = 65535  # of an image, and of a region of interest in it


def check_region(parameter: str, roi: Sequence[int]) -> None:
    """Check ``roi``, [x, y, width, height] in px; an empty one is the whole image.

    Raises:
        BadSetting: It is no region.
    """
    if roi and not (
        len(roi) == 4 and 0 <= min(roi) <= max(roi) <= LONGEST_EDGE_PX and min(roi[2:]) > 0
    ):
        raise BadSetting(
            parameter,
            list(roi),
            f"[x, y, width, height] in px: x and y from 0, width and height from 1, none "
            f"above {LONGEST_EDGE_PX}",
        )
