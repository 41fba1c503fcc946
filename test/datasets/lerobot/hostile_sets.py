"""LeRobot data sets that are changed, and what comes out of them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.datasets.lerobot.test_dataset import KEY
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline

OTHER = "observation.images.other"


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "compressed")


@pytest.fixture(scope="module")
def of_videos(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "raw")


def opened(checkpoint, transport):
    made = Pipeline.open(
        EncoderSettings(
            (CameraSettings("top", KEY, transport),),
            model=ModelSettings(str(checkpoint)),
            engine=EngineSettings("torch", "float32", threads=1),
        )
    )
    yield made
    made.close()


def change_info(root, **fields):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_feature(root, key, **fields):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[key] = features.get(key, {"dtype": "int64", "shape": [1]}) | fields
    change_info(root, features=features)


def change_rows(path, change):
    """``change`` takes the rows as dictionaries and changes them."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def outcome(source, pipeline):
    """What each row gives: its index where a frame came out, else the reason that it was dropped
    for.
    """
    return [
        r.index if hasattr(r.result, "cameras") else r.result.reason
        for r in source.results(pipeline, 0)
    ]


def episode_file(root, episode):
    return root / f"data/chunk-000/episode_{episode:06d}.parquet"
