"""Memory of `embed` on a bag of any length (numpy tells tracemalloc of its arrays)."""

import gc
import tracemalloc

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from test.datasets.embed_runs import settings_of
from vit_perception.config.settings import CameraSettings, PoseSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline

CAMERA, ARM = CameraSettings("camera", "/image"), PoseSettings("arm", "/ee_pose", "world")
PERIOD_NS = 1_000_000_000
SHARD_FRAMES = 20
# Poses are kept for 60 s, so that memory is as large as it gets after 60 frames.
EARLY, LATE = 81, 181


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    made = Pipeline.open(settings_of(tiny_checkpoint, (CAMERA,), (ARM,)))
    yield made
    made.close()


def long_bag(path, plugin, frames):
    """An image of 24 x 24 px and five poses a second, of MCAP each in a chunk, as large images
    are.
    """
    store, writer = (
        get_typestore(Stores.ROS2_KILTED),
        Writer(path, version=9, storage_plugin=plugin),
    )
    types, pixels = store.types, np.random.default_rng(0).integers(0, 256, 24 * 24 * 3, np.uint8)

    def header(stamp_ns):
        time = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
        return types["std_msgs/msg/Header"](time, "world")

    with writer:
        image = writer.add_connection(CAMERA.topic, "sensor_msgs/msg/Image", typestore=store)
        pose = writer.add_connection(ARM.topic, "geometry_msgs/msg/PoseStamped", typestore=store)
        place = types["geometry_msgs/msg/Pose"](
            types["geometry_msgs/msg/Point"](0.1, 0.2, 0.3),
            types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
        )
        for frame in range(frames):
            stamp_ns = 10**12 + frame * PERIOD_NS
            message = types[image.msgtype](header(stamp_ns), 24, 24, "rgb8", 0, 72, pixels)
            writer.write(image, stamp_ns, store.serialize_cdr(message, image.msgtype))
            for part in range(5):
                at_ns = stamp_ns + part * PERIOD_NS // 5
                writer.write(
                    pose,
                    at_ns,
                    store.serialize_cdr(types[pose.msgtype](header(at_ns), place), pose.msgtype),
                )
            if plugin is StoragePlugin.MCAP:
                writer.storage.close_chunk()
    return path


@pytest.mark.parametrize(
    "plugin, kind", [(StoragePlugin.MCAP, "parquet"), (StoragePlugin.SQLITE3, "mcap")]
)
def test_embed_holds_no_more_behind_more_frames(pipeline, tmp_path, plugin, kind):
    """100 frames more: their rows alone, or their open chunks, would be half a megabyte."""
    held, done = {}, 0

    def measure(results):
        nonlocal done
        done += results
        if results and done in (EARLY, LATE):
            gc.collect()
            held[done] = tracemalloc.get_traced_memory()[0]

    bag = long_bag(tmp_path / "bag", plugin, LATE + 10)
    tracemalloc.start()
    try:
        manifest = embed(
            pipeline,
            [BagSource(bag, CAMERA.topic)],
            tmp_path / "out",
            EmbedOptions(kind, ("tokens",), shard_frames=SHARD_FRAMES),
            measure,
        )
    finally:
        tracemalloc.stop()
    grown = held[LATE] - held[EARLY]
    # A shard's line in the journal stays: 2.5 kB for 20 frames here, for 1,000 by default. A chunk
    # that is read, a quarter of a megabyte, is now and then some kilobytes larger.
    shards = (LATE - EARLY) // SHARD_FRAMES
    assert manifest["frames"] == LATE + 10 and grown < 5000 * shards + 64_000, (
        f"{held} bytes: {grown / shards:.0f} a shard"
    )
