"""Depth images as plain objects."""

from types import SimpleNamespace

import numpy as np

from test.plain_messages import header_of


def depth_message(pixels, stamp_ns: int = 1, padding: int = 0, big: bool = False, **fields):
    """``pixels`` (H, W): integers are mm, floats m; each row ends in ``padding`` bytes."""
    pixels = np.asarray(pixels)
    metric = pixels.dtype.kind == "f"
    kind = np.dtype("f4" if metric else "u2").newbyteorder(">" if big else "<")
    rows = [row.astype(kind).tobytes() + bytes(padding) for row in pixels]
    values = {
        "header": header_of(stamp_ns, "camera_optical_frame"),
        "height": len(rows),
        "width": pixels.shape[1],
        "encoding": "32FC1" if metric else "16UC1",
        "is_bigendian": int(big),
        "step": len(rows[0]),
        "data": b"".join(rows),
    }
    return SimpleNamespace(**(values | fields))
