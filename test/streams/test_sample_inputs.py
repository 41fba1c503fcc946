"""Poses that come late, on real threads: what the node looks up equals what a bag would give."""

import threading
import time

import numpy as np
import pytest

from test.plain_messages import MILLISECOND_NS, stamped_pose
from test.waiting import HANG_S
from vit_perception.config.settings import PoseSettings
from vit_perception.streams import sample_inputs
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.pose_history import PoseHistory, pose_of
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.pose import PoseSource
from vit_perception.wire.records import BadInput

ARM = PoseSettings("arm", "/pose", "base_link", wait_s=0.2)
START_NS = 1_000_000_000
SPEED = 2  # of the deliveries, to be quick


class Noting(threading.Condition):
    """A condition that notes how long it is to wait at the most; with ``patient`` it waits for as
    long as it takes.
    """

    def __init__(self, patient: bool = False):
        super().__init__()
        self._patient, self.timeouts_s = patient, []

    def wait_for(self, predicate, timeout=None):
        self.timeouts_s.append(timeout)
        return super().wait_for(predicate, HANG_S if self._patient else timeout)


@pytest.mark.parametrize("seed", range(20))
def test_live_poses_equal_the_bags_when_they_come_up_to_30_ms_late(seed, monkeypatch):
    """100 Hz poses, each delayed by 0 to 30 ms without overtaking; an image every 20 ms is looked
    up at once.
    """
    # A busy machine may deliver them much later: they are waited for all the same.
    monkeypatch.setattr(sample_inputs, "SILENT_S", HANG_S)
    rng = np.random.default_rng(seed)
    stamps_ns = START_NS + 10 * MILLISECOND_NS * np.arange(25)
    messages = [stamped_pose(int(s), x_m=float(x)) for s, x in zip(stamps_ns, rng.normal(size=25))]
    arrivals_s = np.maximum.accumulate((stamps_ns - START_NS) / 1e9 + rng.uniform(0, 0.03, 25))
    live = SampleInputs([PoseSource(ARM)], Noting(patient=True))
    begin_s = time.monotonic()

    def deliver():
        for message, arrival_s in zip(messages, arrivals_s):
            time.sleep(max(0.0, begin_s + arrival_s / SPEED - time.monotonic()))
            live.add("arm", message)

    thread = threading.Thread(target=deliver)
    thread.start()
    bag = PoseHistory()
    for message in messages:
        bag.add(pose_of(message, "base_link"))
    for k in range(1, 10):
        image_s = k * 0.02 + float(rng.uniform(0, 0.01))
        time.sleep(max(0.0, begin_s + image_s / SPEED - time.monotonic()))
        stamp_ns = START_NS + round(image_s * 1e9)
        ours, truth = live.at(stamp_ns)["arm"], bag.lookup(stamp_ns, 50 * MILLISECOND_NS)
        assert ours.status == truth.status == "interpolated" and ours.skew_ns == truth.skew_ns
        np.testing.assert_array_equal(ours.value.position_m, truth.value.position_m)
    thread.join()
    assert (
        live.accounts["arm"].statuses == {"interpolated": 9} and live.accounts["arm"].received == 25
    )


def test_the_pose_of_an_image_that_took_five_seconds_is_still_there():
    live, sync = (
        SampleInputs([PoseSource(ARM)], threading.Condition()),
        CameraSync(["a", "b"], 0, "wait", 10**12, 0),
    )
    live.keep_for(sync.oldest_ns)
    for k in range(600):
        live.add("arm", stamped_pose(START_NS + k * 10 * MILLISECOND_NS, x_m=float(k)))
        if k == 20:
            for camera in "ab":
                sync.add(camera, START_NS + 200 * MILLISECOND_NS, camera, 0)
        if k == 60:
            assert sync.take(0) == {"a": "a", "b": "b"}  # and is being encoded from now on
            sync.add("a", START_NS + 600 * MILLISECOND_NS, "waits", 0)
    found = live.at(START_NS + 200 * MILLISECOND_NS)["arm"]
    assert found.status == "interpolated" and found.value.position_m[0] == 20.0
    for camera in "ab":
        sync.finish(camera)
    assert sync.oldest_ns() == START_NS + 600 * MILLISECOND_NS
    sync.clear("deactivated")
    assert sync.oldest_ns() is None


def test_it_waits_no_longer_than_wait_s_and_then_holds():
    changed = Noting()
    live = SampleInputs(
        [PoseSource(PoseSettings("arm", "/pose", "base_link", wait_s=0.05))], changed
    )
    live.add("arm", stamped_pose(START_NS, x_m=0.5))
    started_s = time.monotonic()
    found = live.at(START_NS + 20 * MILLISECOND_NS)["arm"]
    assert time.monotonic() - started_s >= 0.05 and max(changed.timeouts_s) <= 0.05
    assert found.status == "held" and found.skew_ns == 20 * MILLISECOND_NS
    assert live.at(START_NS + 80 * MILLISECOND_NS)["arm"].status == "missing"


def test_a_silent_stream_is_not_waited_for_until_it_is_back(monkeypatch):
    """Each frame took ``wait_s`` longer for an arm that was switched off."""
    changed = Noting()
    live = SampleInputs([PoseSource(ARM)], changed)

    def waits(stamp_ns: int) -> bool:
        before = len(changed.timeouts_s)
        live.at(stamp_ns)
        return len(changed.timeouts_s) > before

    live.add("arm", stamped_pose(START_NS))
    assert waits(START_NS + 1)
    later_ns = time.monotonic_ns() + round(1.1 * sample_inputs.SILENT_S * 1e9)
    monkeypatch.setattr(sample_inputs.time, "monotonic_ns", lambda: later_ns)
    assert not waits(START_NS + 1)
    with pytest.raises(BadInput):
        live.add("arm", stamped_pose(START_NS + 1, x_m=float("nan")))
    assert not waits(START_NS + 1)
    live.add("arm", stamped_pose(START_NS + 2))
    assert waits(START_NS + 3)


def test_a_refused_pose_is_counted_and_said():
    live = SampleInputs([PoseSource(ARM)], threading.Condition())
    with pytest.raises(BadInput, match="other_link.*base_link"):
        live.add("arm", stamped_pose(START_NS, frame_id="other_link"))
    assert live.accounts["arm"].received == 1 and live.accounts["arm"].refused == {"frame": 1}
    assert live.at(START_NS)["arm"].status == "missing"


def test_images_that_jumped_back_see_no_pose_of_the_pass_before():
    """Found by a reader: a looped bag gave the first pass's pose, marked interpolated."""
    live = SampleInputs(
        [PoseSource(PoseSettings("arm", "/pose", "base_link", wait_s=0.0))], threading.Condition()
    )
    for k in range(200):
        live.add("arm", stamped_pose(START_NS + k * 10 * MILLISECOND_NS))
    live.forget_after(START_NS + 500 * MILLISECOND_NS)
    assert live.at(START_NS + 500 * MILLISECOND_NS)["arm"].status == "missing"
    live.add("arm", stamped_pose(START_NS + 500 * MILLISECOND_NS))
    live.forget_after(START_NS + 500 * MILLISECOND_NS)  # the pose's own jump came first: it stays
    assert live.at(START_NS + 500 * MILLISECOND_NS)["arm"].status == "interpolated"
