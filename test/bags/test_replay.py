"""Bags through the pipeline, with the committed recordings."""

import numpy as np
import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from vit_perception.bags.labelled import labelled_frames
from vit_perception.bags.reader import BagError, BagReader
from vit_perception.bags.image_groups import ImageGroups
from vit_perception.bags.replay import Dropped, replay
from vit_perception.bags.writer import BagWriter
from vit_perception.pipeline import Pipeline
from vit_perception.settings import CameraSettings, EncoderSettings, EngineSettings, ModelSettings, PoseSettings
from vit_perception.types import FrameResult

MS = 1_000_000
CAMERAS = tuple(CameraSettings(n, f"/{n}/image/compressed", "compressed") for n in ("agentview", "wrist"))


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    arms = (PoseSettings("arm", "/ee_pose", "world"),)
    made = Pipeline.open(EncoderSettings(CAMERAS, arms, "require", ModelSettings(str(tiny_checkpoint)),
                                         EngineSettings("torch", "float32")))
    yield made
    made.close()


def test_every_image_of_the_bag_gives_a_frame_with_the_pose_at_its_stamp(pipeline):
    with BagReader(DEMO_BAG) as bag:
        count = bag.count(CAMERAS[0].topic)
        frames = [(r.stamp_ns, r.poses["arm"].status, r.poses["arm"].skew_ns, r.sequence.mask.all())
                  for r in replay(pipeline, bag)]
    assert len(frames) == count == 150
    assert np.all(np.diff([stamp_ns for stamp_ns, *_ in frames]) == 50 * MS)
    # The last pose was recorded before the last image's partner: only the ends have nothing to interpolate with.
    assert {status for _, status, *_ in frames[1:-1]} == {"interpolated"}
    assert {skew_ns for *_, skew_ns, _ in frames} <= {3 * MS, 7 * MS} and all(whole for *_, whole in frames)


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
    assert {(r.reason, "end marker" in r.text) for r in results if isinstance(r, Dropped)} == {("short_data", True)}


def test_what_is_not_in_the_bag_is_named(tmp_path):
    with pytest.raises(BagError, match="no bag at /no/such"):
        BagReader("/no/such")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no readable bag"):
        BagReader(tmp_path / "empty")
    with BagReader(DEMO_BAG) as bag, pytest.raises(BagError, match="/nope; there are: /agentview"):
        list(bag.messages(["/nope"]))


def grouped(given, mask=False, slop_ms=20):
    """Groups as strings such as a50+b52, in order, and the unmatched ones."""
    groups = ImageGroups(["a", "b"], slop_ms * MS, mask, 100 * MS)
    made = [g for name in given for g in groups.add(name[0], int(name[1:]) * MS, name)] + groups.flush()
    return ["+".join(m for _, m in g.values()) for g in made], [f"{c}{ns // MS}" for c, ns in groups.take_unmatched()]


@pytest.mark.parametrize("given, mask, expected", [
    ("a0 a50 b52 b99 a100", False, (["a50+b52", "a100+b99"], ["a0"])),
    ("a0 b0 b16 a33 b33", False, (["a0+b0", "a33+b33"], ["b16"])),  # the nearest partner, not the first
    ("a0 b0 b16 a33", False, (["a0+b0", "a33+b16"], [])),
    ("a0 a50 a100 a150 a200", False, ([], ["a0", "a50", "a100", "a150", "a200"])),
    ("a0 a50 a100 a150 a200", True, (["a0", "a50", "a100", "a150", "a200"], [])),
    ("a0 b0 a50 a100 a150 b200 a200", True, (["a0+b0", "a50", "a100", "a150", "a200+b200"], [])),
])
def test_images_are_grouped_once_and_those_without_partners_are_named(given, mask, expected):
    assert grouped(given.split(), mask) == expected


def looped(tmp_path):
    """The first 2 s of the demo bag, three times, the stamps starting anew each time."""
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "looped") as out:
        topics = [c.topic for c in CAMERAS] + ["/ee_pose"]
        part = [m for m in bag.raw(topics) if m.stamp_ns < bag.start_ns + 2_000_000_000]
        for loop in range(3):
            for message in part:
                out.write(message.topic, message.type_name, message.data, message.stamp_ns + loop * 3_000_000_000)
    return tmp_path / "looped"


def test_a_bag_that_loops_gives_each_pass_alike(pipeline, tmp_path):
    with BagReader(looped(tmp_path)) as bag:
        frames = [(r.stamp_ns, r.poses["arm"].pose.position_m.tolist()) for r in replay(pipeline, bag)]
    assert len(frames) == 3 * 40 and frames[:40] == frames[40:80] == frames[80:]


def test_labels_are_those_at_the_image(tmp_path):
    with BagReader(TRAIN_BAG) as bag:
        truth = [m.data for _, _, m in bag.messages(["/task_stage"])]
        pictures = list(labelled_frames(bag, CAMERAS[1].topic, "/task_stage", every=3))
    assert [p.label for p in pictures] == truth[::3]
    assert len({p.stretch for p in pictures}) == 16  # four stages of four episodes
