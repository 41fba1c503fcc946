"""Bags through the pipeline, with the committed recordings."""

import struct
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from test.recordings.mcap import parts as m
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
)
from vit_perception.datasets import encode_recording as replay_module
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.encode_recording import Dropped, replay
from vit_perception.datasets.labelled import labelled_frames
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagError, BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.streams import recorded_groups
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.recorded_groups import MOST_WAITING, MOST_WAITING_BYTES, ImageGroups
from vit_perception.tokens.kinds import sources_of
from vit_perception.wire.records import FrameResult

MS = 1_000_000
CAMERAS = tuple(
    CameraSettings(n, f"/{n}/image/compressed", "compressed") for n in ("agentview", "wrist")
)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    arms = (PoseSettings("arm", "/ee_pose", "world"),)
    made = Pipeline.open(
        EncoderSettings(
            CAMERAS,
            arms,
            "require",
            ModelSettings(str(tiny_checkpoint)),
            EngineSettings("torch", "float32"),
        )
    )
    yield made
    made.close()


def opened(settings: EncoderSettings) -> SimpleNamespace:
    """What reading a bag needs of a pipeline."""
    return SimpleNamespace(settings=settings, sources=sources_of(settings))


def test_every_image_of_the_bag_gives_a_frame_with_the_pose_at_its_stamp(pipeline):
    with BagReader(DEMO_BAG) as bag:
        count = bag.count(CAMERAS[0].topic)
        frames = [
            (r.stamp_ns, r.poses["arm"].status, r.poses["arm"].skew_ns, r.sequence.mask.all())
            for r in replay(pipeline, bag)
        ]
    assert len(frames) == count == 150
    assert np.all(np.diff([stamp_ns for stamp_ns, *_ in frames]) == 50 * MS)
    # The last pose was recorded before the last image's partner: only the ends have nothing to
    # interpolate with.
    assert {status for _, status, *_ in frames[1:-1]} == {"interpolated"}
    assert {skew_ns for *_, skew_ns, _ in frames} <= {3 * MS, 7 * MS} and all(
        whole for *_, whole in frames
    )


def test_a_bag_written_by_us_reads_back_and_a_bad_image_in_it_is_named(pipeline, tmp_path):
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "copy") as copy:
        for k, message in enumerate(bag.raw([c.topic for c in CAMERAS] + ["/ee_pose"])):
            data = message.data
            if k > 60 and message.topic == CAMERAS[1].topic:
                data = data[:-40] + bytes(40)  # the JPEG's end marker is gone
            copy.write(message.topic, message.type_name, data, message.stamp_ns)
            if k == 90:
                break
    with BagReader(tmp_path / "copy") as bag:
        results = list(replay(pipeline, bag))
    assert any(isinstance(r, FrameResult) for r in results)
    assert {(r.reason, "end marker" in r.text) for r in results if isinstance(r, Dropped)} == {
        ("short_data", True)
    }


def test_what_is_not_in_the_bag_is_named(tmp_path):
    with pytest.raises(BagError, match="no bag at /no/such"):
        BagReader("/no/such")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="is an empty folder; accepted: a rosbag2 folder"):
        BagReader(tmp_path / "empty")
    with BagReader(DEMO_BAG) as bag, pytest.raises(BagError, match="/nope; there are: /agentview"):
        list(bag.messages(["/nope"]))


def grouped(given, mask=False, slop_ms=20):
    """Groups as strings such as a50+b52, in order, and the images in none, those that came late
    with a !.
    """
    groups = ImageGroups(["a", "b"], slop_ms * MS, mask, 100 * MS)
    made = [
        g for name in given for g in groups.add(name[0], int(name[1:]) * MS, name)
    ] + groups.flush()
    return (
        ["+".join(m for _, m in g.values()) for g in made],
        [
            f"{c}{ns // MS}{'!' if reason == 'late' else ''}"
            for c, ns, reason in groups.take_dropped()
        ],
    )


@pytest.mark.parametrize(
    "given, mask, expected",
    [
        ("a0 a50 b52 b99 a100", False, (["a50+b52", "a100+b99"], ["a0"])),
        (
            "a0 b0 b16 a33 b33",
            False,
            (["a0+b0", "a33+b33"], ["b16"]),
        ),  # the nearest partner, not the first
        ("a0 b0 b16 a33", False, (["a0+b0", "a33+b16"], [])),
        ("a0 a50 a100 a150 a200", False, ([], ["a0", "a50", "a100", "a150", "a200"])),
        ("a0 a50 a100 a150 a200", True, (["a0", "a50", "a100", "a150", "a200"], [])),
        (
            "a0 b0 a50 a100 a150 b200 a200",
            True,
            (["a0+b0", "a50", "a100", "a150", "a200+b200"], []),
        ),
        (
            "a100 b100 a166 a133 b133 b166 a200 b200",
            False,
            (["a100+b100", "a133+b133", "a166+b166", "a200+b200"], []),
        ),  # out of order, before it is decided
        (
            "a100 b100 a133 b133 a120 b133 a133 a166 a166 b166",
            False,
            (["a100+b100", "a133+b133", "a166+b166"], ["a120!", "b133!", "a133!", "a166!"]),
        ),
    ],
)
def test_images_are_grouped_once_and_those_without_partners_are_named(given, mask, expected):
    assert grouped(given.split(), mask) == expected


@pytest.mark.parametrize(("count", "size_bytes"), [(400, 1 << 20), (6000, 0)])
def test_images_whose_stamps_hardly_advance_do_not_fill_the_memory(count, size_bytes):
    groups = ImageGroups(["a", "b"], 20 * MS, False, 100 * MS, lambda message: size_bytes)
    assert not [g for ns in range(count) for g in groups.add("a", ns, ns)]
    most = MOST_WAITING_BYTES // size_bytes if size_bytes else MOST_WAITING
    assert groups.take_dropped() == [("a", ns, "crowded") for ns in range(count - most)]
    # Those that still wait find their partners: the nearest, and the ones before it stay alone.
    assert groups.add("b", count - 1, "late")[0]["a"] == (count - 1, count - 1)
    assert [reason for *_, reason in groups.take_dropped()] == ["unmatched"] * (
        most - 1
    ) and not groups.flush()


def test_groups_do_not_wait_for_poses_that_never_come_where_the_clock_stands_still(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(recorded_groups, "MOST_READY", 5)
    settings = EncoderSettings(CAMERAS[:1], (PoseSettings("arm", "/ee_pose", "world"),))
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "bag") as out:
        for message in bag.raw(["/ee_pose"], stop_ns=bag.start_ns + 20 * MS):
            out.write(message.topic, message.type_name, message.data, bag.start_ns)
        for message in bag.raw([CAMERAS[0].topic]):
            out.write(message.topic, message.type_name, message.data, bag.start_ns)
    passed = replay_module._Replay(opened(settings))
    with BagReader(tmp_path / "bag") as bag:
        held = [len(passed._ready) for _ in passed.groups(bag)]
    assert len(held) == 150 and max(held) <= 5


def test_a_topic_of_another_type_is_said_before_anything_is_read():
    raw = opened(EncoderSettings((CameraSettings("a", CAMERAS[0].topic, "raw"),)))
    with (
        BagReader(DEMO_BAG) as bag,
        pytest.raises(
            BagError,
            match="is recorded as sensor_msgs/msg/CompressedImage; accepted: sensor_msgs/msg/Image",
        ),
    ):
        next(replay_module._Replay(raw).groups(bag))
    text = opened(EncoderSettings((CameraSettings("a", "/task_stage", "raw"),)))
    with (
        BagReader(DEMO_BAG) as bag,
        pytest.raises(BagError, match="is recorded as std_msgs/msg/String"),
    ):
        next(replay_module._Replay(text).groups(bag))


def test_what_a_bag_does_not_give_is_skipped_by_name_and_counted(tmp_path):
    topic, begin = CAMERAS[0].topic, len(m.header())
    with BagReader(DEMO_BAG) as bag:
        images = [
            (1, r.stamp_ns, r.data) for r in bag.raw([topic], stop_ns=bag.start_ns + 200 * MS)
        ]
    described = m.schema(1, "sensor_msgs/msg/CompressedImage") + m.channel(1, 1, topic)
    described += m.schema(2, "Battery", "jsonschema") + m.channel(2, 2, "/battery", "json")
    chunk = m.chunk_of([*images, (2, images[-1][1], b"{}")])
    span_ns, size = (images[0][1], images[-1][1]), len(chunk) - 49
    summary = described + m.statistics({1: 9, 2: 1}, *span_ns, 1)
    path = m.write(
        tmp_path / "bag.mcap", chunk, summary + m.index(*span_ns, begin, len(chunk), size, size)
    )
    passed = replay_module._Replay(opened(EncoderSettings(CAMERAS[:1])))
    with BagReader(path) as bag:
        assert len(list(passed.groups(bag))) == len(images) == 4
    rows = {
        (row["topic"], row["reason"]): (row["count"], row["first"])
        for row in passed.take_skips().rows()
    }
    assert rows == {
        ("/battery", "foreign"): (
            1,
            "/battery: its messages are 'json' of type 'Battery', not CDR",
        ),
        (topic, "missing"): (5, f"it says that {topic} has 9 messages, and 4 are there"),
    }


def test_all_images_of_a_group_lie_within_the_slop_of_each_other():
    groups = ImageGroups(["a", "b", "c"], 20 * MS, False, 100 * MS)
    given = [
        ("b", 82),
        ("c", 84),
        ("a", 100),
        ("c", 115),
        ("b", 117),
    ]  # the nearest to a100 are 2 ms apart
    assert [g for c, ms in given for g in groups.add(c, ms * MS, ms)] == [
        {"a": (100 * MS, 100), "b": (117 * MS, 117), "c": (115 * MS, 115)}
    ]
    groups = ImageGroups(["a", "b", "c"], 20 * MS, False, 100 * MS)
    given = [
        ("b", 85),
        ("c", 82),
        ("a", 100),
        ("c", 115),
        ("b", 118),
    ]  # b85 and c115 would be 30 ms apart
    assert [g for c, ms in given for g in groups.add(c, ms * MS, ms)] == [
        {"a": (100 * MS, 100), "b": (85 * MS, 85), "c": (82 * MS, 82)}
    ]


def restamped(tmp_path, stamps_ms):
    """Messages of the demo bag's first camera, recorded in their order, with these header stamps
    after its first.
    """
    topic, path = CAMERAS[0].topic, tmp_path / "restamped"
    with BagReader(DEMO_BAG) as bag, BagWriter(path) as out:
        for ms, message in zip(stamps_ms, bag.raw([topic])):
            seconds, nanoseconds = divmod(bag.start_ns + ms * MS, 1000 * MS)
            # CDR: four bytes of encapsulation, then sec and nanosec of the header's stamp, little
            # endian.
            data = message.data[:4] + struct.pack("<iI", seconds, nanoseconds) + message.data[12:]
            out.write(topic, message.type_name, data, message.stamp_ns)
    return path


@pytest.fixture(scope="module")
def one_camera(tiny_checkpoint):
    made = Pipeline.open(
        EncoderSettings(
            CAMERAS[:1],
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    yield made
    made.close()


def test_late_and_double_stamps_are_dropped_as_the_node_does_and_begin_no_episode(
    one_camera, tmp_path
):
    path = restamped(tmp_path, [100, 133, 120, 166, 166, 200, 1500, 900, 1533, 300, 333])
    with BagReader(path) as bag:
        begin_ns = bag.start_ns
        results = list(replay(one_camera, bag))
    live = CameraSync(["agentview"], 0, "wait", 10**12, 0)
    published = []
    for ms in [100, 133, 120, 166, 166, 200, 1500, 900, 1533, 300, 333]:
        live.add("agentview", begin_ns + ms * MS, ms, 0)
        published += [group["agentview"] for group in [live.take(0)] if group]
    frames = [(r.stamp_ns - begin_ns) // MS for r in results if isinstance(r, FrameResult)]
    assert frames == published == [100, 133, 166, 200, 1500, 1533, 300, 333]
    assert [r.reason for r in results if isinstance(r, Dropped)] == ["late"] * 3
    manifest = embed(
        one_camera,
        [BagSource(path, CAMERAS[0].topic)],
        tmp_path / "out",
        EmbedOptions("safetensors"),
    )
    assert manifest["dropped"] == {"late": 3}
    assert FeatureFiles(tmp_path / "out").episode.tolist() == [0] * 6 + [1] * 2


def test_a_message_that_is_none_of_its_type_is_dropped_and_the_others_are_encoded(
    pipeline, tmp_path, caplog
):
    topics, seen = [c.topic for c in CAMERAS] + ["/ee_pose"], Counter()
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "cut") as out:
        for message in bag.raw(topics, stop_ns=bag.start_ns + 500 * MS):
            seen[message.topic] += 1
            cut = (message.topic == CAMERAS[0].topic and seen[message.topic] == 3) or (
                message.topic == "/ee_pose" and seen[message.topic] in (5, 6)
            )
            out.write(
                message.topic,
                message.type_name,
                message.data[:20] if cut else message.data,
                message.stamp_ns,
            )
    with BagReader(tmp_path / "cut") as bag:
        results = list(replay(pipeline, bag))
        assert bag.undecodable == {CAMERAS[0].topic: 1, "/ee_pose": 2}
    assert sum(isinstance(r, FrameResult) for r in results) == 9
    dropped = {r.reason: r.text for r in results if isinstance(r, Dropped)}
    assert (
        set(dropped) == {"undecodable", "unmatched"} and CAMERAS[0].topic in dropped["undecodable"]
    )
    assert [r.getMessage().count("/ee_pose") for r in caplog.records] == [1]
    manifest = embed(
        pipeline,
        [BagSource(tmp_path / "cut", CAMERAS[0].topic)],
        tmp_path / "out",
        EmbedOptions("safetensors"),
    )
    assert manifest["frames"] == 9 and manifest["dropped"] == {"undecodable": 1, "unmatched": 1}


def looped(tmp_path):
    """The first 2 s of the demo bag, three times, the stamps starting anew each time."""
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "looped") as out:
        topics = [c.topic for c in CAMERAS] + ["/ee_pose"]
        part = [m for m in bag.raw(topics) if m.stamp_ns < bag.start_ns + 2_000_000_000]
        for loop in range(3):
            for message in part:
                out.write(
                    message.topic,
                    message.type_name,
                    message.data,
                    message.stamp_ns + loop * 3_000_000_000,
                )
    return tmp_path / "looped"


def test_a_bag_that_loops_gives_each_pass_alike(pipeline, tmp_path):
    with BagReader(looped(tmp_path)) as bag:
        frames = [
            (r.stamp_ns, r.poses["arm"].value.position_m.tolist()) for r in replay(pipeline, bag)
        ]
    assert len(frames) == 3 * 40 and frames[:40] == frames[40:80] == frames[80:]


def test_labels_are_those_at_the_image(tmp_path):
    with BagReader(TRAIN_BAG) as bag:
        truth = [m.data for _, _, m in bag.messages(["/task_stage"])]
        pictures = list(labelled_frames(bag, CAMERAS[1].topic, "/task_stage", every=3))
    assert [p.label for p in pictures] == truth[::3]
    assert len({p.stretch for p in pictures}) == 16  # four stages of four episodes
