"""What features cost: bytes per image in every form, and 1,000 hours of three cameras.

    python benchmarks/storage_cost.py                          (two minutes on one core)
    python benchmarks/storage_cost.py --from benchmarks/results/storage_cost.json   (no measuring)

It encodes the first second of both demo bags, writes the frames in every form with the writer of
`embed`, and counts the bytes that a further frame adds to a file. It measures the CPU time of an
image in `embed` for several numbers of frames together. The costs follow from these figures and
from the assumptions, which it prints. Every price is an option.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from copy import copy
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed
os.environ.setdefault("OMP_NUM_THREADS", "1")

# ruff: noqa: E402
from vit_perception.config.offline_settings import read_parameters
from vit_perception.config.settings import EncoderSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_columns import FrameColumns
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.learn_basis import learn_basis
from vit_perception.datasets.shards import ColumnShard, _write_parquet
from vit_perception.files.atomic import write_whole
from vit_perception.files.log import SILENT
from vit_perception.pipeline.frames_together import MEASURED_FRAMES, opened_pipeline
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.wire.records import FrameResult

BAGS = tuple(ROOT / "data/demo" / name for name in ("pick_place_train", "pick_place_demo"))
PARAMS = ROOT / "config/demo.yaml"
CAMERAS = 2
SECONDS = 1.0
BATCHES = (1, 8)
ROUNDS = 2
# By form: the feature, and the stored form.
FORMS = {
    "tokens float32": ("tokens", "float32"),
    "tokens float16": ("tokens", "float16"),
    "tokens int8": ("tokens", "int8"),
    "tokens basis": ("tokens", "basis"),
    "CLS": ("cls", "float32"),
    "embedding": ("embedding", "float32"),
}
JPEG = "JPEG of the camera"
DEFAULTS = {
    "hours": 1000.0,
    "cameras": 3,
    "rate_hz": 20.0,
    # Amazon S3 Standard in us-east-1, list price of the first 50 TB, 2026.
    "storage_usd_per_gb_month": 0.023,
    # Amazon EC2 m7g.large on demand in us-east-1, June 2026: 0.0816 USD for two.
    "cpu_usd_per_core_hour": 0.0408,
    # Amazon EC2 g5.xlarge (one A10G) on demand in us-east-1, June 2026.
    "gpu_usd_per_hour": 1.006,
    # Of the encoder on your GPU: none was measured here.
    "gpu_images_per_s": None,
}


def costs(measured: dict, assumed: dict) -> dict:
    """Return what the assumed recordings cost, from measured bytes and seconds."""
    images = assumed["hours"] * 3600 * assumed["rate_hz"] * assumed["cameras"]
    terabytes = {form: size * images / 1e12 for form, size in measured["bytes_per_image"].items()}
    core_hours = {
        batch: seconds * images / 3600 for batch, seconds in measured["core_s_per_image"].items()
    }
    gpu_hours = None
    if assumed["gpu_images_per_s"]:
        gpu_hours = images / assumed["gpu_images_per_s"] / 3600
    return {
        "images": images,
        "terabytes": terabytes,
        "usd_per_month": {
            form: 1000 * size * assumed["storage_usd_per_gb_month"]
            for form, size in terabytes.items()
        },
        "core_hours": core_hours,
        "cpu_usd": {
            batch: hours * assumed["cpu_usd_per_core_hour"] for batch, hours in core_hours.items()
        },
        "gpu_hours": gpu_hours,
        "gpu_usd": None if gpu_hours is None else gpu_hours * assumed["gpu_usd_per_hour"],
    }


def storage_table(result: dict) -> str:
    """Return the table of docs/object_storage.md: bytes of an image, and of all recordings."""
    found = costs(result["measured"], result["assumed"])
    rows = ["| form | bytes per image | TB | USD per month |", "| --- | --- | --- | --- |"]
    for form, size in result["measured"]["bytes_per_image"].items():
        rows.append(
            f"| {form} | {size:,.0f} | {found['terabytes'][form]:,.2f} | "
            f"{found['usd_per_month'][form]:,.0f} |"
        )
    return "\n".join(rows)


def compute_table(result: dict) -> str:
    """Return the table of docs/object_storage.md: CPU time of an image, and of all recordings."""
    found = costs(result["measured"], result["assumed"])
    rows = ["| `--batch` | CPU ms per image | core hours | USD |", "| --- | --- | --- | --- |"]
    for batch, seconds in result["measured"]["core_s_per_image"].items():
        rows.append(
            f"| {batch} | {1000 * seconds:.1f} | {found['core_hours'][batch]:,.0f} | "
            f"{found['cpu_usd'][batch]:,.0f} |"
        )
    return "\n".join(rows)


def first_seconds(bag: Path, folder: Path) -> tuple[Path, list[int]]:
    """Copy the first seconds of ``bag``; return the copy and the sizes of its JPEG images."""
    copied = folder / bag.name
    sizes = []
    with BagReader(bag) as whole, BagWriter(copied) as out:
        stop_ns = whole.start_ns + round(SECONDS * 1e9)
        for message in whole.raw(list(whole.topics)):
            if message.stamp_ns >= stop_ns:
                break
            out.write(message.topic, message.type_name, message.data, message.stamp_ns)
            if message.type_name == "sensor_msgs/msg/CompressedImage":
                sizes.append(len(message.data))
    return copied, sizes


class Writers:
    """For each stored form of one pipeline, its columns; and the files that they are written to."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: dict[str, list] = {}

    def add(self, pipeline: Pipeline, store: str, result: FrameResult) -> None:
        """Add a frame in all forms of ``store``, as a pipeline with that output makes them."""
        output = replace(pipeline.settings.output, dtype="float32" if store == "basis" else store)
        of_store = copy(pipeline)
        of_store.settings = replace(pipeline.settings, output=output)
        for form, (feature, stored) in FORMS.items():
            if stored == store:
                columns = FrameColumns(of_store, (feature,)).of(result, {})
                self.rows.setdefault(form, []).append({k: np.array(v) for k, v in columns.items()})

    def bytes_per_image(self, form: str) -> float:
        """Return the bytes that one more frame adds to a file, by image."""
        rows = self.rows[form]
        sizes = []
        for count in (len(rows) // 2, len(rows)):
            shard = ColumnShard(None, _write_parquet)
            shard._rows = [dict(row) for row in rows[:count]]
            path = self.folder / f"{form.replace(' ', '_')}_{count}.parquet"
            shard.write(path)
            sizes.append(path.stat().st_size)
        return round((sizes[1] - sizes[0]) / (len(rows) - len(rows) // 2) / CAMERAS, 1)


def measured_bytes(settings: EncoderSettings, folder: Path) -> dict[str, float]:
    """Write the frames in every form; return the bytes of an image."""
    copies = [first_seconds(bag, folder) for bag in BAGS]
    sizes = [size for _, sizes in copies for size in sizes]
    writers = Writers(folder)
    pipeline = Pipeline.open(settings)
    tokens = folder / "tokens"
    sources = [BagSource(path, settings.cameras[0].topic) for path, _ in copies]
    embed(pipeline, sources, tokens, EmbedOptions("parquet", features=("tokens",)))
    basis = learn_basis(FeatureFiles(tokens), 64).basis
    for source in sources:
        for produced in source.results(pipeline, 0):
            for store in ("float32", "float16", "int8"):
                writers.add(pipeline, store, produced.result)
            pipeline.parts.basis = basis
            writers.add(pipeline, "basis", produced.result)
            pipeline.parts.basis = None
    pipeline.close()
    found = {form: writers.bytes_per_image(form) for form in FORMS}
    return found | {JPEG: round(sum(sizes) / len(sizes), 1)}


def encoded(frames: int, batch: int) -> int:
    """Return how many frames the encoder gets for a bag of ``frames``.

    The last batch is filled up, and the first frames are encoded one by one too. In a long bag that
    is nothing, but it is much in a second of one.
    """
    return frames if batch == 1 else -(-frames // batch) * batch + min(MEASURED_FRAMES, batch)


def measured_seconds(settings: EncoderSettings, folder: Path) -> tuple[dict[str, float], str]:
    """Embed with every batch in turns; return core seconds of an image, and what ran."""
    source = BagSource(folder / BAGS[1].name, settings.cameras[0].topic)
    times: dict[str, list[float]] = {str(batch): [] for batch in BATCHES}
    runs = ""
    pipelines = {batch: opened_pipeline(settings, batch, SILENT) for batch in BATCHES}
    for turn in range(ROUNDS + 1):
        for batch, pipeline in pipelines.items():
            out = folder / f"timed_{batch}_{turn}"
            started = time.process_time()
            manifest = embed(pipeline, [source], out, EmbedOptions("safetensors", batch=batch))
            spent = time.process_time() - started
            if turn:  # the first one warms up
                times[str(batch)].append(spent / encoded(manifest["frames"], batch) / CAMERAS)
            runs = pipeline.what_runs()
    for pipeline in pipelines.values():
        pipeline.close()
    return {batch: round(min(each), 5) for batch, each in times.items()}, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", type=Path, dest="given", help="figures of an earlier run")
    parser.add_argument("--out", type=Path, help="write a JSON file")
    for name, value in DEFAULTS.items():
        kind = int if name == "cameras" else float
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=value, help="(default: %(default)s)"
        )
    args = parser.parse_args()
    assumed = {name: getattr(args, name) for name in DEFAULTS}
    if args.given:
        result = json.loads(args.given.read_text()) | {"assumed": assumed}
    else:
        with tempfile.TemporaryDirectory() as name:
            settings, _ = read_parameters(PARAMS, "")
            settings = replace(settings, engine=replace(settings.engine, threads=1))
            sizes = measured_bytes(settings, Path(name))
            print(sizes, flush=True)
            seconds, runs = measured_seconds(settings, Path(name))
        result = {
            "date": date.today().isoformat(),
            "command": "python benchmarks/storage_cost.py",
            "runs": runs,
            "measured": {"bytes_per_image": sizes, "core_s_per_image": seconds},
            "assumed": assumed,
        }
    result["costs"] = costs(result["measured"], assumed)
    print(f"\n{result['runs']}, one thread; measured {result['date']}")
    print("assumed: " + ", ".join(f"{name} {value}" for name, value in assumed.items()))
    print(f"\n{storage_table(result)}\n\n{compute_table(result)}")
    if result["costs"]["gpu_hours"] is None:
        print("\nGPU hours: not measured here; --gpu-images-per-s gives yours")
    else:
        print(
            f"\nGPU: {result['costs']['gpu_hours']:,.0f} h, {result['costs']['gpu_usd']:,.0f} USD"
        )
    if args.out:
        text = json.dumps(result, indent=1) + "\n"
        write_whole(args.out, lambda file: file.write_text(text, "utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
