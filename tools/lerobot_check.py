"""``python -m tools.lerobot_check``: LeRobot itself on a data set of `embed --format lerobot`.

Its loader opens the set offline, each value is that of the files, its own statistics are ours, and
its training script trains ACT, with the settings that it has by itself. Needs the packages of
requirements/parity.txt. Writes the table of docs/lerobot.md; 1 where a check fails.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/lerobot_check.json"
DOCUMENT = ROOT / "docs/lerobot.md"
BEGIN, END = "<!-- lerobot_check: begin -->", "<!-- lerobot_check: end -->"
TRAIN_BAG, DEMO_BAG = ROOT / "data/demo/pick_place_train", ROOT / "data/demo/pick_place_demo"
PICTURE_FRAMES = 20
# LeRobot's quantiles come from histograms of 5,000 bins, ours from the values.
QUANTILE_TOLERANCE = 0.02
REPO_ID = "own/set"
WRIST = "observation.images.wrist"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lerobot_check", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="of training (default: %(default)s)")
    parser.add_argument("--checkpoint", default="demo", help="the encoder (default: %(default)s)")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = str(Path(folder) / "cache")
        import_lerobot()
        rows = list(_checks(Path(folder), arguments))
    for row in rows:
        print(f"{'ok    ' if row['ok'] else 'FAILED'} {row['what']}: {row['found']}")
    result = {"lerobot": version("lerobot"), "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    _write_table(rows)
    return 0 if all(row["ok"] for row in rows) else 1


def import_lerobot() -> None:
    """Let LeRobot be imported beside transformers 5: without its package of GR00T's model, which
    does not load there, and without the ``__init__`` that imports every policy.
    """
    from tools.checkpoint_parity.lerobot_models import import_lerobot as import_policies

    import_policies()
    found = find_spec("lerobot")
    package = types.ModuleType("lerobot.policies.groot")
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "policies/groot")]
    sys.modules.setdefault("lerobot.policies.groot", package)


def _checks(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    root = folder / "set"
    _embed(TRAIN_BAG, root, arguments, "--features", "tokens")
    yield from _opened(root)
    yield _statistics(root)
    short = _beginning_of(DEMO_BAG, folder / "short")
    for kind in ("images", "videos"):
        _embed(short, folder / kind, arguments, "--images", kind)
        yield _pictures(folder / kind, kind)
    yield from _trained(root, folder / "trained", arguments)


def _embed(bag: Path, out: Path, arguments: argparse.Namespace, *options: str) -> None:
    from vit_perception.cli.main import main as command

    given = ["embed", str(bag), "--params", str(ROOT / "config/demo.yaml"), "--out", str(out)]
    given += ["--format", "lerobot", "--action", "state", "--task", "pick and place", *options]
    if command([*given, "--checkpoint", arguments.checkpoint]) != 0:
        raise SystemExit(1)


def _beginning_of(bag: Path, out: Path) -> Path:
    from vit_perception.recordings.reader import BagReader
    from vit_perception.recordings.writer import BagWriter

    images = 0
    with BagReader(bag) as reader, BagWriter(out) as writer:
        for message in reader.raw(sorted(reader.topics)):
            images += message.topic.startswith("/wrist")
            if images > PICTURE_FRAMES:
                break
            writer.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return out


def _data_set(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(REPO_ID, root=root)


def _opened(root: Path) -> Iterator[dict[str, Any]]:
    data = _data_set(root)
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
        "ok": tasks == {"pick and place"} and data.num_episodes > 0,
    }


def _statistics(root: Path) -> dict[str, Any]:
    """Compare ``dataset.meta.stats`` with what LeRobot's own code makes of the values."""
    from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats

    data = _data_set(root)
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


def _pictures(root: Path, kind: str) -> dict[str, Any]:
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
    data = _data_set(root)
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
        return frames[nearest_s].to_ndarray(format="rgb24")


class _Losses(logging.Handler):
    """Keeps the losses that LeRobot's training script logs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if loss := getattr(record.msg, "metrics", {}).get("loss"):
            self.found.append(float(loss.avg))


def _trained(root: Path, out: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from lerobot.scripts import lerobot_train

    losses = _Losses()
    every = max(1, arguments.steps // 6)
    sys.argv = [
        "lerobot-train",
        f"--dataset.repo_id={REPO_ID}",
        f"--dataset.root={root}",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        f"--output_dir={out}",
        f"--steps={arguments.steps}",
        f"--batch_size={arguments.batch}",
        "--num_workers=0",
        f"--log_freq={every}",
        f"--save_freq={arguments.steps}",
        "--wandb.enable=false",
    ]
    kept = logging.Logger.callHandlers

    def heard(logger: logging.Logger, record: logging.LogRecord) -> None:
        losses.emit(record)  # the script makes the handlers of its own anew
        kept(logger, record)

    logging.Logger.callHandlers = heard  # type: ignore[method-assign]
    try:
        lerobot_train.main()
    finally:
        logging.Logger.callHandlers = kept  # type: ignore[method-assign]
    found = losses.found
    yield {
        "what": f"lerobot-train, ACT as it is, {arguments.steps} steps of {arguments.batch}: loss",
        "found": " → ".join(f"{loss:.1f}" for loss in found),
        "ok": len(found) > 1 and found[-1] < 0.5 * found[0],
    }
    yield _acts(root, out)


def _acts(root: Path, out: Path) -> dict[str, Any]:
    """Compare the example's answers with those that LeRobot itself gives for the same frames."""
    import torch
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    sys.path.insert(0, str(ROOT / "examples"))
    from lerobot_policy import LeRobotPolicy

    model = out / "checkpoints/last/pretrained_model"
    policy = ACTPolicy.from_pretrained(model)
    policy.eval()
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(model))
    example = LeRobotPolicy(model)
    data = _data_set(root)
    worst = 0.0
    for k in range(0, len(data), 50):
        item = {key: v for key, v in data[k].items() if key.startswith("observation.")}
        with torch.inference_mode():
            expected = after(policy.predict_action_chunk(before(dict(item))))[0].numpy()
        found = example.chunk({key: value.numpy() for key, value in item.items()})
        worst = max(worst, float(np.abs(found - expected).max()))
    return {
        "what": "examples/lerobot_policy.py against LeRobot's own answers, largest difference",
        "found": f"{worst:.1e}, of chunks of {len(expected)} actions",
        "ok": worst < 1e-5,
    }


def _write_table(rows: list[dict[str, Any]]) -> None:
    if not DOCUMENT.exists():
        return
    text = DOCUMENT.read_text("utf-8")
    lines = ["| check | found |", "| --- | --- |"]
    lines += [
        f"| {row['what']} | {row['found']}{'' if row['ok'] else ' **failed**'} |" for row in rows
    ]
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text("\n".join([f"{head}{BEGIN}", *lines, f"{END}{tail}"]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
