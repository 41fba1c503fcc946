"""The layout as it changes along a recording: a camera's geometry is known from its first image
on.
"""

import numpy as np

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import FrameResult, RgbImage

Seen = dict[str, tuple[int, int, str]]  # height and width in pixels, frame_id, by camera


class LayoutTracker:
    """What the node's ``~/layout`` says after each frame. ``seen`` restores an earlier tracker's
    state.
    """

    def __init__(self, pipeline: Pipeline, seen: Seen | None = None):
        self._pipeline = pipeline
        self.seen: Seen = dict(seen or {})
        self.layout = self._layout()

    def update(self, result: FrameResult) -> bool:
        """Take one frame's sizes and frames into account; whether the layout is another one now."""
        new = {
            name: (*camera.image.size, camera.image.frame_id)
            for name, camera in result.cameras.items()
        }
        if all(self.seen.get(name) == entry for name, entry in new.items()):
            return False
        self.seen |= new
        self.layout = self._layout()
        return True

    def _layout(self) -> Layout:
        # The pixels don't matter, and an image kept here would keep its message's memory.
        return self._pipeline.layout(
            {
                name: RgbImage(np.empty((height, width, 0), np.uint8), 0, frame_id)
                for name, (height, width, frame_id) in self.seen.items()
            }
        )
