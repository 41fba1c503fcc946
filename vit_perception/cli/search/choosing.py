"""`search` without a query: near-identical frames, a diverse choice, the table of episodes."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.search.finding import bags_of, has_terminal
from vit_perception.cli.search.sheets import sheet_of, write_sheet
from vit_perception.cli.search.tables import table, write_csv, write_json
from vit_perception.datasets.search.choose import Groups, diverse, near_identical
from vit_perception.datasets.search.episodes import Episode, episodes_of
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit

DEFAULT_WITHIN = 0.01
MOST_PRINTED = 20


def run(args: Namespace, way: str) -> int:
    features = FeatureSet(args.features, args.camera, args.encoder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), transient=True, disable=not has_terminal()
    ) as progress:
        bar = progress.add_task("frames", total=len(features))
        make = {"dedup": _copies, "diverse": _choice, "episodes": _episodes}[way]
        rows, said = make(args, features, lambda frames: progress.advance(bar, frames))
    printed = rows if way != "dedup" else [row for row in rows if row["frames"] > 1][:MOST_PRINTED]
    if printed:
        print(table(printed))
    print(said)
    if args.csv:
        write_csv(args.csv, rows)
    if args.json:
        write_json(args.json, {"how": said, "encoder_sha256": features.encoder_sha256}, rows)
    if args.sheet:
        hits = [Hit(row["frame"], features.cameras[0], row["distance"], 0) for row in rows]
        ranked = [{**row, "rank": row["choice"]} for row in rows]
        write_sheet(args.sheet, sheet_of(features, hits, (), ranked, bags_of(args), said))
    return 0


def _copies(
    args: Namespace, features: FeatureSet, advance: Callable[[int], None]
) -> tuple[list[dict[str, Any]], str]:
    within = DEFAULT_WITHIN if args.within is None else args.within
    groups = near_identical(features, within, advance)
    rows = [_group_row(features, groups, int(frame)) for frame in _by_size(groups)]
    kept = len(groups.leaders)
    several = int((np.bincount(groups.leader) > 1).sum())
    return rows, (
        f"{kept} of {len(features)} frames are left if one of each group is kept; {several} groups "
        f"of more than one, within a distance of {within:g}"
    )


def _by_size(groups: Groups) -> np.ndarray:
    """Return all frames: those that stand for groups first, the largest group first."""
    sizes = np.bincount(groups.leader, minlength=len(groups.leader))
    others = groups.leader != np.arange(len(groups.leader))
    return np.lexsort((np.arange(len(others)), groups.leader, -sizes[groups.leader], others))


def _group_row(features: FeatureSet, groups: Groups, frame: int) -> dict[str, Any]:
    name = features.name_of(frame)
    leader = int(groups.leader[frame])
    return {
        # Of the frame that stands for it; 0 in the rows of the others.
        "frames": int((groups.leader == frame).sum()) if leader == frame else 0,
        "recording": name.source,
        "time_s": round(name.time_s, 3),
        "stamp_ns": name.stamp_ns,
        "episode": name.episode,
        "frame": frame,
        "like_frame": leader,
        "distance": float(groups.distance[frame]),
    }


def _choice(
    args: Namespace, features: FeatureSet, advance: Callable[[int], None]
) -> tuple[list[dict[str, Any]], str]:
    chosen = diverse(features, args.diverse, advance)
    rows = []
    for number, (frame, distance) in enumerate(chosen, 1):
        name = features.name_of(frame)
        rows.append(
            {
                "choice": number,
                "recording": name.source,
                "time_s": round(name.time_s, 3),
                "stamp_ns": name.stamp_ns,
                "episode": name.episode,
                "frame": frame,
                "distance": distance,
            }
        )
    covered = f"; the last one is {chosen[-1][1]:.4f} from those before it" if rows[1:] else ""
    early = f" (all others are equal to one of them; {args.diverse} were asked for)"
    short = early if len(rows) < args.diverse else ""
    return rows, f"{len(rows)} of {len(features)} frames, the most different first{covered}{short}"


def _episodes(
    args: Namespace, features: FeatureSet, advance: Callable[[int], None]
) -> tuple[list[dict[str, Any]], str]:
    found = episodes_of(features, advance)
    rows = [_episode_row(each) for each in found]
    noted = sum(1 for each in found if each.notes)
    return rows, (
        f"{len(rows)} episodes, {len(features)} frames; {noted} with something to look at. "
        "dropped: images of the whole recording that embed dropped"
    )


def _episode_row(episode: Episode) -> dict[str, Any]:
    row = asdict(episode)
    row |= {name: round(row[name], 3) for name in ("length_s", "rate_hz", "longest_step_s")}
    return {**row, "notes": ", ".join(episode.notes) or "-"}
