"""A recording of an arm: pictures at 10 Hz with a gap, its pose, and commands at another rate."""

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from test.datasets.embed_runs import settings_of
from test.datasets.test_recorded_columns import ARM, CAMERA, MS, START_NS, T, goal, header, write
from vit_perception.config.column_settings import column_settings
from vit_perception.datasets.embed import EmbedOptions
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.lerobot.writer.options import LeRobotOptions
from vit_perception.datasets.lerobot.writer.write import embed_lerobot, embed_options
from vit_perception.datasets.recorded_columns import recorded_columns
from vit_perception.pipeline.pipeline import Pipeline

FRAMES = [k for k in range(20) if k not in (11, 12, 13)]  # of 100 ms: a gap after the eleventh
COMMAND_MS = 40
SIDE_PX = 24


def stamp_of(frame):
    return START_NS + frame * 100 * MS


def command_at(stamp_ns):
    """The number of the last command that was given up to ``stamp_ns``; None before the first."""
    since = stamp_ns - (START_NS + 150 * MS)
    return None if since < 0 else min(since // (COMMAND_MS * MS), 60)


def messages():
    for frame in FRAMES:
        stamp_ns = stamp_of(frame)
        pixels = bytes([(frame * 10 + k) % 256 for k in range(SIDE_PX * SIDE_PX * 3)])
        array = np.frombuffer(pixels, np.uint8)
        image = T["sensor_msgs/msg/Image"](
            header(stamp_ns), SIDE_PX, SIDE_PX, "rgb8", 0, 3 * SIDE_PX, array
        )
        yield CAMERA.topic, stamp_ns + 5 * MS, image
    for k in range(2 * 21):
        stamp_ns = START_NS + k * 50 * MS
        point = T["geometry_msgs/msg/Point"](k * 0.01, 0.5, -1.0)
        turn = T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 1.0, 0.0)
        pose = T["geometry_msgs/msg/PoseStamped"](
            header(stamp_ns), T["geometry_msgs/msg/Pose"](point, turn)
        )
        yield ARM.topic, stamp_ns + MS, pose
    for k in range(61):
        stamp_ns = START_NS + 150 * MS + k * COMMAND_MS * MS
        yield "/goal", stamp_ns + MS, goal(stamp_ns, [k, -k])
        yield "/gripper", stamp_ns + MS, T["std_msgs/msg/Float64"](k / 10)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write(tmp_path_factory.mktemp("arm") / "bag", messages(), StoragePlugin.MCAP)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    made = Pipeline.open(settings_of(tiny_checkpoint, (CAMERA,), (ARM,)))
    yield made
    made.close()


def write_set(pipeline, bags, out, change=lambda sources: sources, **options):
    """Embed ``bags`` to a LeRobot data set; return what it says of itself."""
    lerobot = LeRobotOptions(**options)
    columns = recorded_columns(bags, column_settings(lerobot.columns()))
    sources = change([BagSource(bag, CAMERA.topic, columns) for bag in bags])
    given = embed_options(EmbedOptions("parquet", shard_frames=7, columns=columns), lerobot)
    return embed_lerobot(pipeline, sources, out, given, lerobot)
