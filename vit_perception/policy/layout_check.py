"""Whether live features are those that a policy was trained with. It needs numpy alone."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.json_values import differing_fields
from vit_perception.wire.layout import MEASURED, Layout

# The engines' accuracy check holds features of every runtime and precision close to one reference.
ENGINE_FIELDS = ("runtime", "precision", "min_cosine")
# Fields of a camera that are known from its images, and may change with them.
GEOMETRY_FIELDS = ("source_size_px", "scale", "offset_px", "frame_id")


class LayoutMismatch(InvalidValue):
    """The live features are not those of a policy's training; the message names the differences."""


def check_layout(
    live: Layout, expected: Sequence[Layout], may_differ: Sequence[str] = ENGINE_FIELDS
) -> None:
    """Check that ``live`` is one of ``expected``.

    Fields in ``may_differ`` are not compared, nor is the geometry of a camera without images yet.

    Raises:
        LayoutMismatch: it is not; the message names the fields that differ from the nearest one.
    """
    nearest: list[str] | None = None
    for layout in expected:
        if layout.layout_id == live.layout_id:
            return
        one = asdict(layout)
        other = asdict(live)
        for each in (one, other, *one["encoders"], *other["encoders"]):
            for name in (*may_differ, *MEASURED):
                each.pop(name, None)
        for seen, now in zip(one["cameras"], other["cameras"]):
            for key in GEOMETRY_FIELDS if now["source_size_px"] is None else ():
                seen.pop(key), now.pop(key)
        unseen = {camera.name for camera in live.cameras if camera.source_size_px is None}
        for encoder in (*one["encoders"], *other["encoders"]):
            encoder["views"] = [v for v in encoder["views"] if v["camera"] not in unseen]
        differences = differing_fields(one, other)
        if not differences:
            return
        nearest = differences if nearest is None or len(differences) < len(nearest) else nearest
    if nearest is not None:
        raise LayoutMismatch(
            f"layout {live.layout_id} is not that of the data: {'; '.join(nearest[:6])}"
        )


def meaning_of(layout: Layout) -> dict[str, Any]:
    """Return ``layout`` without measured fields, and without the geometry of cameras."""
    fields = asdict(layout)
    for name in MEASURED:
        del fields[name]
    for camera in fields["cameras"]:
        for name in GEOMETRY_FIELDS:
            del camera[name]
    return fields
