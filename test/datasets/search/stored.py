"""Features that the tests of search share: of the demo bags, and hand-made ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from test.datasets.embed_runs import CAMERAS, settings_of
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.files.atomic import file_sha256
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import Layout, LayoutCamera, LayoutGroup

WIDTH = 8


def embedded(checkpoint, out, bags=(TRAIN_BAG, DEMO_BAG), *, settings=None, **options):
    """Embed real bags with a tiny model; return the folder."""
    pipeline = Pipeline.open(settings or settings_of(checkpoint))
    try:
        sources = [BagSource(bag, CAMERAS[0].topic) for bag in bags]
        embed(pipeline, sources, out, EmbedOptions("parquet", **options))
    finally:
        pipeline.close()
    return out


@pytest.fixture(scope="session")
def demo_features(tiny_checkpoint, tmp_path_factory) -> Path:
    """Both demo bags through the tiny DINOv2: CLS, tokens and embedding of two cameras."""
    return embedded(tiny_checkpoint, tmp_path_factory.mktemp("search") / "demo")


def hand_made(
    folder: Path,
    vectors: np.ndarray,
    *,
    episodes=None,
    stamps_s=None,
    names=("first",),
    cameras=("wrist",),
    shard_frames=1000,
    encoder_sha256="e" * 64,
    dropped=None,
) -> Path:
    """Write features in the files of `embed` whose CLS vectors are ``vectors`` (n, cameras, D).

    Episode k is source k of ``names``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, _, width = vectors.shape
    episode = np.zeros(count, np.int64) if episodes is None else np.asarray(episodes, np.int64)
    stamps_s = np.arange(count) * 0.1 if stamps_s is None else np.asarray(stamps_s)
    stamp_ns = 1_000_000_000 + np.round(stamps_s * 1e9).astype(np.int64)
    groups = tuple(LayoutGroup(f"{c}/cls", "cls", c, k, k + 1) for k, c in enumerate(cameras))
    layout = Layout(
        groups=groups,
        cameras=tuple(LayoutCamera(c, "", "stretch", (56, 56), 14) for c in cameras),
        width=width,
        dtype="float32",
        model="hand-made",
        weights_sha256="w" * 64,
        encoder_sha256=encoder_sha256,
        block=11,
        runtime="torch",
        precision="float32",
        min_cosine=1.0,
        fusion="concat",
    )
    folder.mkdir(parents=True)
    shards = []
    for source in range(len(names)):
        rows = np.flatnonzero(episode == source)
        for first in range(0, len(rows), shard_frames):
            part = rows[first : first + shard_frames]
            columns = {name: np.zeros(len(part), np.int64) for name in ("layout", "index")}
            columns |= {"source": np.full(len(part), source), "episode": episode[part]}
            columns |= {"stamp_ns": stamp_ns[part], "recorded_ns": stamp_ns[part]}
            for k, camera in enumerate(cameras):
                columns[f"{camera}.cls"] = vectors[part, k].astype(np.float32)
                columns[f"{camera}.stamp_ns"] = stamp_ns[part]
            table = pa.table(
                {
                    name: values
                    if values.ndim == 1
                    else pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
                    for name, values in columns.items()
                }
            ).replace_schema_metadata(
                {f"shape.{n}": ",".join(map(str, v.shape[1:])) for n, v in columns.items()}
            )
            path = folder / f"features_{len(shards):06d}.parquet"
            pq.write_table(table, path, row_group_size=7)
            shards.append(
                {
                    "file": path.name,
                    "sha256": file_sha256(path),
                    "size_bytes": path.stat().st_size,
                    "frames": len(part),
                    "source": source,
                    "first_stamp_ns": int(stamp_ns[part[0]]),
                    "last_stamp_ns": int(stamp_ns[part[-1]]),
                }
            )
    camera_settings = [{"name": c, "topic": f"/{c}", "transport": "raw"} for c in cameras]
    manifest = {
        "format": "vit_perception.embed",
        "format_version": 1,
        "complete": True,
        "run": {
            "file_format": "parquet",
            "sources": [{"kind": "bag", "name": name, "digest": name} for name in names],
            "settings": {"cameras": camera_settings, "model": {}, "engine": {}},
        },
        "frames": count,
        "dropped": dropped or {},
        "skipped": [],
        "layouts": [json.loads(layout.to_json())],
        "shards": shards,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def clustered(count: int, clusters: int = 12, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """(count, 1, width) random vectors around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width))
    return (centres[rng.integers(0, clusters, count)] + 0.2 * rng.normal(size=(count, width)))[
        :, None
    ]
