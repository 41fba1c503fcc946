"""LeRobot data sets of both layouts, with images in Parquet and with videos."""

import io
import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.lerobot.dataset import LeRobotSource, is_lerobot
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles

FPS, SIZE_PX, LENGTHS = 10, (40, 60), (4, 3)
KEY = "observation.images.top"
PATHS = {
    "v2.1": (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    "v3.0": (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}


def picture(index):
    """A grey that says which frame it is, with a gradient to look at."""
    return (
        np.full((*SIZE_PX, 3), 20 + 30 * index, np.uint8)
        + np.arange(SIZE_PX[1], dtype=np.uint8)[None, :, None] // 4
    )


def webp(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return file.getvalue()


def rows(episode, first, with_images):
    count = LENGTHS[episode]
    table = {
        "timestamp": pa.array(np.arange(count) / FPS, pa.float32()),
        "frame_index": pa.array(range(count), pa.int64()),
        "episode_index": pa.array([episode] * count, pa.int64()),
        "index": pa.array(range(first, first + count), pa.int64()),
        "task_index": pa.array([0] * count, pa.int64()),
        "action": pa.array([[k + first, 0.5] for k in range(count)], pa.list_(pa.float32(), 2)),
    }
    if with_images:
        encoded = [cv2.imencode(".png", picture(first + k))[1].tobytes() for k in range(count)]
        encoded[-1] = webp(
            picture(first + count - 1)
        )  # LeRobot writes PNG; whoever converts a set may not
        table[KEY] = pa.array(
            [{"bytes": data, "path": f"frame-{k:06d}.png"} for k, data in enumerate(encoded)]
        )
    return pa.table(table)


def write_video(path, indices):
    av = pytest.importorskip(
        "av", reason="PyAV is not installed (pip install av): videos cannot be written or read"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width = SIZE_PX
        stream.pix_fmt = "yuv420p"
        for k in indices:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k), format="rgb24")))
        container.mux(stream.encode())


def data_set(root, version, video):
    """Two episodes; v3.0 has both in one file."""
    data_path, video_path = PATHS[version]
    image = {
        "dtype": "video" if video else "image",
        "shape": [*SIZE_PX, 3],
        "names": ["height", "width", "channels"],
    }
    info = {
        "codebase_version": version,
        "fps": FPS,
        "total_frames": sum(LENGTHS),
        "total_episodes": 2,
        "chunks_size": 1000,
        "data_path": data_path,
        "video_path": video_path if video else None,
        "features": {
            KEY: image,
            "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
            **{
                n: {"dtype": "int64", "shape": [1]}
                for n in ("frame_index", "episode_index", "index", "task_index")
            },
            "timestamp": {"dtype": "float32", "shape": [1]},
        },
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    tables = [rows(0, 0, not video), rows(1, LENGTHS[0], not video)]
    fields = {"episode_chunk": 0, "chunk_index": 0, "file_index": 0, "video_key": KEY}
    for episode, table in enumerate([pa.concat_tables(tables)] if version == "v3.0" else tables):
        path = root / data_path.format(episode_index=episode, **fields)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    if version == "v3.0":
        starts_s = [0.0, LENGTHS[0] / FPS]
        described = {"episode_index": [0, 1]}
        if video:
            described |= {
                f"videos/{KEY}/chunk_index": [0, 0],
                f"videos/{KEY}/file_index": [0, 0],
                f"videos/{KEY}/from_timestamp": starts_s,
            }
        (root / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.table(described), root / "meta/episodes/chunk-000/file-000.parquet")
    if video:
        split = [range(7)] if version == "v3.0" else [range(4), range(4, 7)]
        for episode, indices in enumerate(split):
            write_video(root / video_path.format(episode_index=episode, **fields), indices)
    return root


@pytest.mark.parametrize("version", list(PATHS))
@pytest.mark.parametrize("video", [False, True], ids=["images", "videos"])
def test_every_frame_of_every_episode_in_order(tmp_path, tiny_checkpoint, version, video):
    source = LeRobotSource(data_set(tmp_path / "set", version, video))
    assert source.total() == 7 and [c.name for c in source.cameras] == ["top"]
    settings = EncoderSettings(
        (CameraSettings("top", KEY, "raw" if video else "compressed"),),
        model=ModelSettings(str(tiny_checkpoint)),
        engine=EngineSettings("torch", "float32", threads=1),
    )
    pipeline = Pipeline.open(settings)
    greys = [
        r.result.cameras["top"].image.pixels[20, 30].mean() for r in source.results(pipeline, 0)
    ]
    np.testing.assert_allclose(
        greys, [picture(k)[20, 30].mean() for k in range(7)], atol=6 if video else 0
    )
    later = [
        (r.index, r.result.cameras["top"].image.pixels[20, 30].mean())
        for r in source.results(pipeline, 5)
    ]
    assert later == [(5, greys[5]), (6, greys[6])]
    embed(pipeline, [source], tmp_path / "out", EmbedOptions("parquet"))
    pipeline.close()
    files = FeatureFiles(tmp_path / "out")
    assert files.episode.tolist() == [0] * 4 + [1] * 3
    assert files.stamp_ns.tolist() == [10**9 + k * 10**8 for k in (0, 1, 2, 3, 0, 1, 2)]
    assert [files.row(k, ("action",))["action"].tolist() for k in (0, 6)] == [
        [0.0, 0.5],
        [6.0, 0.5],
    ]
    assert files.row(6, ("episode_index",))["episode_index"] == 1


def test_what_cannot_be_read_is_named(tmp_path):
    root = data_set(tmp_path / "set", "v3.0", False)
    assert is_lerobot(root) and not is_lerobot(tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v9.0"}))
    with pytest.raises(ValueError, match="codebase_version is 'v9.0'; accepted: v2.0, v2.1, v3.0"):
        LeRobotSource(root)
    (root / "meta/info.json").write_text(json.dumps(info | {"features": {}}))
    with pytest.raises(ValueError, match="has 0 image features and 1 data files"):
        LeRobotSource(root)
