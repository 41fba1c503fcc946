"""Search among a million vectors: how long a query takes, and what the index finds of the truth.

    python benchmarks/search_bench.py FEATURES [--frames 500000] [--queries 200] [--out FILE]

FEATURES are real ones with tokens of two cameras (`vit-perception embed` of the demo's bags). Their
CLS and patch tokens become new frames: each vector is a real token, moved by up to a half towards
another token of the same picture, with Gaussian noise of a tenth of the deviation of each channel.
Every tenth frame is left out: the queries are its tokens, as they are. The new frames are written
as features of two cameras and episodes of 1,000 frames, and indexed by the package's own code.

``wall_ms``   from the query to its 100 candidates, by the clock: other work on the machine counts
``cpu_ms``    processor time of all threads of the process for the same
``recall``    at 10: share of the ten nearest frames, by comparing all vectors, among the first ten

Times are of an index that is open and has been asked before.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from vit_perception.datasets.search.exact import compared
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.find import Queries, find
from vit_perception.datasets.search.hits import SpreadRule
from vit_perception.datasets.search.lance_index import LanceIndex
from vit_perception.datasets.search.lance_setup import PARAMETERS
from vit_perception.datasets.search.stored_vectors import unit_rows
from vit_perception.datasets.shards import ROW_GROUP_BYTES
from vit_perception.files.atomic import file_sha256
from vit_perception.policy.features import FeatureFiles

BLOCK = 5000
EPISODE = 1000
TOP = 10
CANDIDATES = 100
PROBES = (2, 5, 10, 20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--frames", type=int, default=500_000, help="of two cameras each")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(args.features, Path(folder), args.frames, args.queries)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return 0


def measure(real: Path, folder: Path, frames: int, queries: int) -> dict:
    """Make the features, build the index, ask it, and compare with all vectors."""
    rng = np.random.default_rng(0)
    tokens, held_out, deviation = real_tokens(FeatureFiles(real))
    write_features(FeatureFiles(real), folder / "features", tokens, deviation, frames, rng)
    features = FeatureSet([folder / "features"])
    asked = unit_rows(held_out[rng.choice(len(held_out), queries, replace=False)])
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    index = LanceIndex(features, folder / "index")
    built = {
        "wall_s": round(time.perf_counter() - started_s, 1),
        "cpu_s": round(time.process_time() - started_cpu_s, 1),
    }
    truth, exact = exact_top(features, asked)
    rows = [ask(features, folder, probes, asked, truth) for probes in PROBES]
    return {
        "command": "python benchmarks/search_bench.py FEATURES",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "data": {
            "vectors": index.vectors,
            "width": features.width,
            "real_tokens": sum(map(len, tokens)),
            "made": "real tokens, mixed within a picture by up to a half, noise of 0.1 deviation",
            "queries": queries,
        },
        "index": {
            **dataclasses.asdict(PARAMETERS),
            "kind": "IVF_SQ over float16 vectors",
            "lists": PARAMETERS.lists(index.vectors),
            "build": built,
            "disk_bytes": size_of(folder / "index"),
            "features_bytes": size_of(folder / "features"),
        },
        "exact_scan_of_all_queries": exact,
        "chosen_probes": PARAMETERS.probes,
        "by_probes": rows,
        "complete_search": complete(features, folder, asked[:20]),
    }


def real_tokens(files: FeatureFiles) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the unit tokens of each picture, those of every tenth frame, and their deviation."""
    layout = files.layouts[0]
    pictures: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for first, block in files.blocks(("tokens",)):
        for number, tokens in enumerate(block["tokens"], first):
            for camera in layout.cameras:
                groups = [g for g in layout.groups if g.source == camera.name]
                rows = np.concatenate([tokens[g.start : g.stop] for g in groups])
                (held_out if number % 10 == 5 else pictures).append(unit_rows(rows))
    return pictures, np.concatenate(held_out), np.concatenate(pictures[::7]).std(axis=0)


def write_features(
    files: FeatureFiles,
    folder: Path,
    pictures: list[np.ndarray],
    deviation: np.ndarray,
    frames: int,
    rng: np.random.Generator,
) -> None:
    """Write ``frames`` frames of two cameras as features of the same encoder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    cameras = [camera.name for camera in files.layouts[0].cameras]
    shards = []
    for first in range(0, frames, BLOCK):
        count = min(BLOCK, frames - first)
        rows = np.arange(first, first + count)
        stamps = 1_000_000_000 + rows * 50_000_000
        columns = {"stamp_ns": stamps, "recorded_ns": stamps, "episode": rows // EPISODE}
        columns |= {name: np.zeros(count, np.int64) for name in ("index", "source", "layout")}
        for camera in cameras:
            columns[f"{camera}.cls"] = made_vectors(pictures, deviation, count, rng)
            columns[f"{camera}.stamp_ns"] = stamps
        table = pa.table(
            {
                name: values
                if values.ndim == 1
                else pa.FixedSizeListArray.from_arrays(
                    pa.array(values.reshape(-1)), values.shape[1]
                )
                for name, values in columns.items()
            }
        ).replace_schema_metadata(
            {f"shape.{n}": ",".join(map(str, v.shape[1:])) for n, v in columns.items()}
        )
        path = folder / f"features_{len(shards):06d}.parquet"
        row_bytes = sum(values.nbytes for values in columns.values()) // count
        pq.write_table(
            table,
            path,
            compression="none",
            use_dictionary=False,
            row_group_size=ROW_GROUP_BYTES // row_bytes,
        )
        shards.append(
            {
                "file": path.name,
                "sha256": file_sha256(path),
                "size_bytes": path.stat().st_size,
                "frames": count,
                "source": 0,
            }
        )
    run = {**files.manifest["run"], "sources": files.manifest["run"]["sources"][:1]}
    manifest = {
        **files.manifest,
        "run": run | {"file_format": "parquet"},
        "shards": shards,
        "frames": frames,
        "layouts": files.manifest["layouts"][:1],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def made_vectors(
    pictures: list[np.ndarray], deviation: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return ``count`` vectors: two tokens of one picture mixed, with noise."""
    chosen = rng.integers(0, len(pictures), count)
    places = rng.random((2, count))
    tokens = [pictures[k] for k in chosen]
    one, other = (np.stack([t[int(p * len(t))] for t, p in zip(tokens, each)]) for each in places)
    share = rng.random((count, 1), np.float32) / 2
    noise = 0.1 * deviation * rng.standard_normal((count, one.shape[1]), np.float32)
    return (one * (1 - share) + other * share + noise).astype(np.float32)


def exact_top(features: FeatureSet, asked: np.ndarray) -> tuple[np.ndarray, dict]:
    """Return the ten nearest frames (Q, 10) of each query by comparing all, and the time."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    best = np.full((len(asked), TOP), np.inf, np.float32)
    frames = np.zeros((len(asked), TOP), np.int64)
    for first, vectors in features.blocks():
        distances = compared(vectors, asked).min(axis=1).T  # (Q, n)
        together = np.concatenate([best, distances], axis=1)
        numbers = np.concatenate(
            [frames, np.broadcast_to(np.arange(first, first + len(vectors)), distances.shape)],
            axis=1,
        )
        order = np.argsort(together, axis=1, kind="stable")[:, :TOP]
        best = np.take_along_axis(together, order, axis=1)
        frames = np.take_along_axis(numbers, order, axis=1)
    return frames, {
        "wall_s": round(time.perf_counter() - started_s, 1),
        "cpu_s": round(time.process_time() - started_cpu_s, 1),
    }


def ask(
    features: FeatureSet, folder: Path, probes: int, asked: np.ndarray, truth: np.ndarray
) -> dict:
    """Ask all queries, looking into ``probes`` lists."""
    parameters = dataclasses.replace(PARAMETERS, probes=probes)
    index = LanceIndex(features, folder / "index", parameters=parameters)
    for query in asked[:10]:
        index.hits(query[None], CANDIDATES)
    wall_ms, cpu_ms, kept = [], [], 0
    for query, nearest in zip(asked, truth):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        hits = index.hits(query[None], CANDIDATES)
        wall_ms.append(1e3 * (time.perf_counter() - started_s))
        cpu_ms.append(1e3 * (time.process_time() - started_cpu_s))
        kept += len(set(nearest.tolist()) & {hit.frame for hit in hits[:TOP]})
    return {
        "probes": probes,
        "recall": round(kept / truth.size, 4),
        **spread_of("wall_ms", wall_ms),
        **spread_of("cpu_ms", cpu_ms),
    }


def complete(features: FeatureSet, folder: Path, asked: np.ndarray) -> dict:
    """Time ``find`` as the command runs it: open, ask, spread, distances from the features."""
    wall_ms, cpu_ms = [], []
    for query in asked:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        queries = Queries(query[None], ("query",))
        given = {"rule": SpreadRule(), "index_folder": folder / "index"}
        found = find(features, queries, TOP, method="lancedb", **given)
        wall_ms.append(1e3 * (time.perf_counter() - started_s))
        cpu_ms.append(1e3 * (time.process_time() - started_cpu_s))
        assert found.hits
    return {**spread_of("wall_ms", wall_ms), **spread_of("cpu_ms", cpu_ms)}


def spread_of(name: str, values: list[float]) -> dict:
    """Return median and 99th percentile."""
    return {
        f"{name}_median": round(float(np.median(values)), 2),
        f"{name}_p99": round(float(np.quantile(values, 0.99)), 2),
    }


def machine() -> str:
    """Return what the processor is called."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return platform.machine()


def size_of(folder: Path) -> int:
    """Return the bytes of all files below ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    raise SystemExit(main())
