"""The sheet of `search`: pictures of queries and results, where their bags are found."""

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit
from vit_perception.datasets.search.originals import Originals
from vit_perception.datasets.search.patch_places import places_of_frame
from vit_perception.datasets.search.queries import Asked
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import printable
from vit_perception.viewing.search.sheet import SheetPicture, search_sheet


def sheet_of(
    features: FeatureSet,
    hits: Sequence[Hit],
    asked: Sequence[Asked],
    rows: Sequence[dict[str, Any]],
    folders: Sequence[Path],
    note: str,
) -> bytes:
    """Return the PNG of a search, and print how many pictures were not found, and why."""
    originals = Originals(features, folders)
    missing: list[str] = []
    found = []
    for hit, row in zip(hits, rows):
        original = originals.of(hit.frame, hit.camera)
        if original.image is None:
            missing.append(original.why)
        lines = (
            f"{row['rank']}   distance {hit.distance:.3f}   {hit.camera}",
            f"{row['recording']} @ {row['time_s']:.2f} s",
        )
        pixels = None if original.image is None else original.image.pixels
        found.append(SheetPicture(pixels, lines, original.why, _box(features, hit)))
    queries = [_query(each, originals) for each in asked]
    for why in dict.fromkeys(missing):
        print(
            printable(
                f"no picture of {missing.count(why)} results: {why}; accepted: --bags with the "
                "folder that holds the recordings"
            )
        )
    title = f"{len(hits)} of {len(features)} frames; model {features.model}"
    return search_sheet(title, queries, found, note)


def write_sheet(path: Path, sheet: bytes) -> None:
    """Write the PNG, and say where it is."""
    write_whole(path, lambda partial: partial.write_bytes(sheet))
    print(printable(f"sheet of the pictures: {path}"))


def _query(asked: Asked, originals: Originals) -> SheetPicture:
    lines = (asked.name, asked.camera)
    box = None if asked.box is None else astuple(asked.box)
    if asked.image is not None:
        return SheetPicture(asked.image.pixels, lines, box=box)
    if asked.frame is None:
        return SheetPicture(None, lines, "a text")
    original = originals.of(asked.frame, asked.camera)
    pixels = None if original.image is None else original.image.pixels
    return SheetPicture(pixels, lines, original.why, box)


def _box(features: FeatureSet, hit: Hit) -> tuple[float, float, float, float] | None:
    """Return the region; none in a rectified picture, of which the original is shown."""
    if hit.patch is None or features.camera_of(hit.frame, hit.camera).rectified:
        return None
    places = places_of_frame(features, hit.frame, hit.camera)
    if places is None:
        return None
    box = places.box(hit.patch)
    return box.left, box.top, box.right, box.bottom
