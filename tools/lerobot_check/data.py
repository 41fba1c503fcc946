"""What LeRobot's loader gives of a data set, against the files and the recording."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tools.lerobot_check.sets import TASK, data_set

# LeRobot's quantiles come from histograms of 5,000 bins, ours from the values.
QUANTILE_TOLERANCE = 0.02
WRIST = "observation.images.wrist"


def opened(root: Path) -> Iterator[dict[str, Any]]:
    """Compare each value of each frame with the files."""
    data = data_set(root)
    rows = [
        row
        for path in sorted(root.glob("data/*/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    different = [
        f"{key} of row {k}"
        for k, row in enumerate(rows)
        for item in [data[k]]
        for key, value in row.items()
        if not np.array_equal(item[key].numpy(), np.asarray(value, item[key].numpy().dtype))
    ]
    yield {
        "what": "LeRobotDataset opens it offline; values that differ from the files'",
        "found": f"{len(different)} of {len(rows)} frames x {len(rows[0])} features",
        "ok": not different and len(data) == len(rows) > 0,
    }
    tasks = {data[k]["task"] for k in range(len(data))}
    yield {
        "what": "episodes, tasks",
        "found": f"{data.num_episodes}, {', '.join(tasks)}",
        "ok": tasks == {TASK} and data.num_episodes > 0,
    }


def statistics(root: Path) -> dict[str, Any]:
    """Compare ``dataset.meta.stats`` with what LeRobot's own code makes of the values."""
    from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats

    data = data_set(root)
    parts = []
    for episode in data.meta.episodes:
        rows = range(episode["dataset_from_index"], episode["dataset_to_index"])
        items = [data.hf_dataset[k] for k in rows]
        # As LeRobot does before it counts: numbers as (frames,), vectors as (frames, n).
        # In float64: in float32 LeRobot's deviations of large numbers are off by 18 % of a range.
        values = {
            key: np.stack([item[key].numpy() for item in items]).astype(np.float64)
            for key in data.meta.stats
        }
        parts.append(compute_episode_stats(values, data.features))
    expected = aggregate_stats(parts)
    worst = {"exact": 0.0, "quantiles": 0.0}
    for key, found in data.meta.stats.items():
        # Of the values' own range: a mean may be zero.
        span = np.maximum(expected[key]["max"] - expected[key]["min"], 1e-6)
        span = np.maximum(span, 1e-6 * np.abs(expected[key]["max"]))
        for name, value in expected[key].items():
            if found[name].shape != value.shape:
                worst["exact"] = float("inf")
            kind = "quantiles" if name.startswith("q") else "exact"
            scale = 1.0 if name == "count" else span
            difference = float(np.max(np.abs(found[name] - value) / scale))
            worst[kind] = max(worst[kind], difference)
    return {
        "what": "meta.stats against LeRobot's own, largest difference in the values' range",
        "found": f"mean, std, min, max, count {worst['exact']:.1e}; quantiles "
        f"{worst['quantiles']:.1e}",
        "ok": worst["exact"] < 1e-4 and worst["quantiles"] < QUANTILE_TOLERANCE,
    }


def pictures(root: Path, kind: str) -> dict[str, Any]:
    """Compare pictures as LeRobot finds them with those that the recording has."""
    from vit_perception.image.decode import decode_compressed
    from vit_perception.recordings.reader import BagReader

    with BagReader(root.parent / "short") as bag:
        truth = {
            message.header.stamp.sec * 10**9 + message.header.stamp.nanosec: decode_compressed(
                message
            ).pixels
            for _, _, message in bag.messages(["/wrist/image/compressed"])
        }
    data = data_set(root)
    videos = kind == "videos" and not find_spec("torchcodec")
    worst = 0.0
    for k in range(len(data)):
        item = data.hf_dataset[k] if videos else data[k]
        pixels = (
            _frame_of_video(data, item)
            if videos
            else item[WRIST].numpy().transpose(1, 2, 0) * 255.0
        )
        worst = max(worst, float(np.abs(pixels - truth[int(item["stamp_ns"])]).mean()))
    by = ", decoded by PyAV at LeRobot's file and time: torchcodec is not here" if videos else ""
    return {
        "what": f"pictures of --images {kind}, largest mean difference of a frame, of 255{by}",
        "found": f"{worst:.3f}",
        "ok": worst < (3.0 if kind == "videos" else 1e-3),
    }


def _frame_of_video(data: Any, item: dict[str, Any]) -> np.ndarray:
    """Return the frame of the file and at the time at which LeRobot looks for it."""
    import av

    number = int(item["episode_index"])
    time_s = data.meta.episodes[number][f"videos/{WRIST}/from_timestamp"] + float(item["timestamp"])
    with av.open(str(data.root / data.meta.get_video_file_path(number, WRIST))) as container:
        frames = {frame.time: frame for frame in container.decode(video=0)}
        nearest_s = min(frames, key=lambda at_s: abs(at_s - time_s))
        if abs(nearest_s - time_s) > data.tolerance_s:
            raise ValueError(f"the video has no frame at {time_s} s, the nearest is {nearest_s} s")
        return frames[nearest_s].to_ndarray(format="rgb24").astype(np.float64)
