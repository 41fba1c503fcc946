"""Features to a LeRobot data set: ``embed`` writes to a working folder, from which the set is made.

An interruption costs what it costs `embed`: the same call continues. The set appears in ``out``
when it is whole; ``meta/`` comes last.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vit_perception.datasets.embed import EmbedOptions, embed, run_of
from vit_perception.datasets.embed_sources import Source
from vit_perception.datasets.lerobot.writer import pictures, tables
from vit_perception.datasets.lerobot.writer.data_set import DataSet
from vit_perception.datasets.lerobot.writer.frames import frames_of
from vit_perception.datasets.lerobot.writer.options import LeRobotOptions
from vit_perception.files.atomic import put_in_place, sync
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.json_values import differing_fields

WORK = ".embed"
# Beside LeRobot's own files: what the features are, as in `embed`'s manifest.
OURS = "meta/vit_perception.json"
NEW_FOLDER = "a new or an empty folder, or the one of a run that was interrupted"


def embed_lerobot(
    pipeline: Pipeline,
    sources: Sequence[Source],
    out: Path,
    options: EmbedOptions,
    lerobot: LeRobotOptions,
    advance: Callable[[int], None] = lambda results: None,
) -> dict[str, Any]:
    """Write a LeRobot data set of ``sources`` to the folder ``out``; return what OURS holds.

    ``options`` are those of the working folder, in Parquet.

    Raises:
        InvalidValue, BagError: A source or an option cannot be used, or ``out`` holds other things.
        OSError: The disk is full. Finished work is kept, and the same call continues.
    """
    check_lerobot_out(out)
    run = {**run_of(pipeline, sources, options), "lerobot": lerobot.identity()}
    run = json.loads(json.dumps(run))
    work = out / WORK
    kept = work.with_name(f"{WORK}_pictures")
    if (out / OURS).exists():
        told = _finished(out, run)
        _forget(work, kept)
        return told
    given = sources
    if lerobot.pictures != "none":
        given = [pictures.KeptPictures(s, kept, number) for number, s in enumerate(sources)]
    manifest = embed(pipeline, given, work, options, advance)
    told = write_lerobot(work, out, kept, lerobot, run, manifest)
    _forget(work, kept)
    return told


def _forget(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def check_lerobot_out(out: Path) -> None:
    """Check that ``out`` can be a data set of this package.

    Raises:
        InvalidValue: It cannot.
    """
    if out.exists() and not out.is_dir():
        raise InvalidValue(f": {out} is a file; accepted: {NEW_FOLDER}", argument="out")
    if not out.exists() or (out / WORK).is_dir() or (out / OURS).exists():
        return
    if others := sorted(path.name for path in out.iterdir()):
        raise InvalidValue(
            f": {out} holds other files ({', '.join(others[:3])}); accepted: {NEW_FOLDER}",
            argument="out",
        )


def _finished(out: Path, run: dict[str, Any]) -> dict[str, Any]:
    told = json.loads((out / OURS).read_text())
    if differences := differing_fields(told["run"], run):
        raise InvalidValue(
            f": {out} is a data set of other settings: {'; '.join(differences[:4])}; accepted: a "
            "new folder",
            argument="out",
        )
    return told


def write_lerobot(
    features: Path,
    out: Path,
    kept: Path,
    lerobot: LeRobotOptions,
    run: dict[str, Any],
    manifest: dict[str, Any],
) -> dict[str, Any]:
    """Write a LeRobot data set of the finished folder ``features`` of `embed` to ``out``.

    ``kept`` has the pictures. What an interrupted call left in ``out`` is written anew.
    """
    files = FeatureFiles(features)
    frames = frames_of(files, lerobot)
    made = features.with_name(f"{WORK}_made")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(0o700)
    writer = DataSet(files, frames, made, kept, lerobot)
    told = {
        "run": run,
        "layouts": manifest["layouts"],
        "dropped": manifest["dropped"],
        "drop_texts": manifest["drop_texts"],
        "skipped": manifest["skipped"],
        "left_out": frames.left_out,
        "notes": frames.notes,
        **writer.write(),
    }
    tables.write_json(made / OURS, told)
    for name in ("data", "videos", "meta"):
        if (made / name).exists():
            shutil.rmtree(out / name, ignore_errors=True)
            for path in sorted((made / name).rglob("*")):
                sync(path)
            put_in_place(made / name, out / name)
    made.rmdir()
    return told


def embed_options(options: EmbedOptions, lerobot: LeRobotOptions) -> EmbedOptions:
    """Return ``options`` of the working folder of a data set."""
    features = ("embedding", "tokens") if lerobot.tokens else ("embedding",)
    return replace(options, file_format="parquet", features=features)


def summary_lines(out: Path, told: dict[str, Any]) -> Iterator[str]:
    """Yield what a data set holds, in lines for people."""
    yield (
        f"{out}: {told['total_episodes']} episodes, {told['total_frames']} frames at "
        f"{told['fps']:g} Hz, {told['total_tasks']} tasks"
    )
    yield from told["notes"]
    for reason, count in told["left_out"].items():
        yield f"left out: {count} frames: {reason}"
