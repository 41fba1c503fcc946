"""Poses in any order, looked up as the node does, and messages that no pose can be made of."""

import numpy as np
import pytest

from test.streams.pose_messages import pose_at, pose_message
from vit_perception.streams import sample_history
from vit_perception.streams.pose_history import PoseHistory, pose_of
from vit_perception.wire.records import BadInput

MS = 1_000_000
SECOND = 1000 * MS
START = 1_700_000_000 * SECOND
MAX_SKEW = 50 * MS


def history_of(*poses) -> PoseHistory:
    history = PoseHistory()
    for pose in poses:
        history.add(pose)
    return history


def refusal(message, *expected) -> BadInput:
    with pytest.raises(BadInput) as caught:
        pose_of(message, *expected)
    return caught.value


def test_a_message_becomes_a_pose():
    pose = pose_of(pose_message((1, 2, 3), (0, 0.6, 0, 0.8)), "base")
    assert pose.position_m.tolist() == [1, 2, 3] and pose.quaternion_xyzw.tolist() == [
        0,
        0.6,
        0,
        0.8,
    ]
    assert (pose.stamp_ns, pose.frame_id) == (5 * SECOND + 7, "base")
    assert pose.position_m.dtype == pose.quaternion_xyzw.dtype == np.float64


def test_rclpys_own_message_becomes_a_pose():
    geometry = pytest.importorskip(
        "geometry_msgs.msg", reason="rclpy's message classes are not installed"
    )
    message = geometry.PoseStamped()
    message.header.stamp.sec, message.header.frame_id = 5, "base"
    message.pose.position.y, message.pose.orientation.w = 0.25, 1.0
    pose = pose_of(message, "base")
    assert (pose.position_m.tolist(), pose.quaternion_xyzw.tolist()) == ([0, 0.25, 0], [0, 0, 0, 1])


def test_rounding_in_the_quaternion_is_removed():
    pose = pose_of(pose_message(quaternion=(0, 0, 0.6001, 0.8)))
    assert np.linalg.norm(pose.quaternion_xyzw) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "position, quaternion",
    [
        ((float("nan"), 0, 0), (0, 0, 0, 1)),
        ((0, float("inf"), 0), (0, 0, 0, 1)),
        ((0, 0, 0), (0, 0, float("nan"), 1)),
        ((0, 0, 0), (0, float("-inf"), 0, 1)),
    ],
)
def test_numbers_that_are_not_finite_are_refused(position, quaternion):
    error = refusal(pose_message(position, quaternion))
    assert (
        error.reason == "nan"
        and ("nan" in str(error) or "inf" in str(error))
        and "finite" in str(error)
    )


@pytest.mark.parametrize("position", [(1.1e6, 0, 0), (0, -1e39, 0), (0, 0, 1e300)])
def test_a_position_beyond_any_robot_is_refused(position):
    """1e39 m is finite as float64, and infinite among float32 features."""
    error = refusal(pose_message(position, (0, 0, 0, 1)))
    assert error.reason == "position" and "accepted: up to 1e+06 m" in str(error)


@pytest.mark.parametrize(
    "quaternion, norm",
    [
        ((0, 0, 0, 0), "0"),
        ((0, 0, 0, 2), "2"),
        ((0, 0, 0.6, 0.79), "0.992"),
        ((1e200, 0, 0, 0), "1e+200"),
        ((0, 0, 0, 1.0011), "1.0011"),
    ],
)
def test_a_quaternion_that_is_not_unit_is_refused(quaternion, norm):
    error = refusal(pose_message(quaternion=quaternion))
    assert error.reason == "quaternion" and f"norm {norm}" in str(error)


def test_another_frame_is_refused_by_both_names():
    error = refusal(pose_message(frame_id="world"), "base")
    assert error.reason == "frame" and "'world'" in str(error) and "'base'" in str(error)
    assert pose_of(pose_message(frame_id="world")).frame_id == "world"


def test_a_stamp_of_zero_is_refused():
    assert refusal(pose_message(sec=0, nanosec=0)).reason == "stamp"


def test_between_two_samples_position_is_linear_and_rotation_slerped():
    history = history_of(pose_at(START, 0.0, 0), pose_at(START + 40 * MS, 4.0, 40))
    found = history.lookup(START + 10 * MS, MAX_SKEW)
    assert (found.status, found.skew_ns) == ("interpolated", 10 * MS)
    assert (found.value.stamp_ns, found.value.frame_id) == (START + 10 * MS, "base")
    np.testing.assert_allclose(found.value.position_m, [1, 0, 1])
    np.testing.assert_allclose(
        found.value.quaternion_xyzw, pose_at(0, 0, 10).quaternion_xyzw, atol=1e-15
    )


def test_a_sample_at_the_stamp_is_taken_as_it_is():
    exact = pose_at(START + 10 * MS, 1.25, 30)
    found = history_of(pose_at(START), exact, pose_at(START + 20 * MS, 9)).lookup(
        START + 10 * MS, 0
    )
    assert (found.status, found.skew_ns) == ("interpolated", 0)
    assert found.value.position_m.tolist() == exact.position_m.tolist()


@pytest.mark.parametrize(
    "stamp, sample_x",
    [(START - 50 * MS, 1.0), (START - 1, 1.0), (START + 11 * MS, 2.0), (START + 60 * MS, 2.0)],
)
def test_outside_the_samples_the_nearest_is_held_at_the_images_stamp(stamp, sample_x):
    history = history_of(pose_at(START, 1.0), pose_at(START + 10 * MS, 2.0))
    found = history.lookup(stamp, MAX_SKEW)
    assert (found.status, found.value.stamp_ns, found.value.position_m[0]) == (
        "held",
        stamp,
        sample_x,
    )
    assert found.skew_ns == max(START - stamp, stamp - START - 10 * MS)


@pytest.mark.parametrize("stamp", [START - 50 * MS - 1, START + 60 * MS + 1])
def test_beyond_the_skew_the_pose_is_missing(stamp):
    found = history_of(pose_at(START), pose_at(START + 10 * MS)).lookup(stamp, MAX_SKEW)
    assert (found.status, found.value, found.skew_ns) == ("missing", None, None)


def test_nothing_is_known_of_an_empty_history():
    assert PoseHistory().lookup(START, MAX_SKEW).status == "missing"
    assert not PoseHistory().covers(START)


def test_a_gap_in_the_stream_is_not_bridged():
    """The arm may have been anywhere in between; near either end of the gap the sample there is
    held.
    """
    history = history_of(pose_at(START, 0.0), pose_at(START + SECOND, 10.0))
    assert history.lookup(START + 500 * MS, MAX_SKEW).status == "missing"
    near = history.lookup(START + 40 * MS, MAX_SKEW)
    assert (near.status, near.skew_ns) == ("held", 40 * MS)
    assert near.value.position_m[0] == 0.0 and near.value.stamp_ns == START + 40 * MS


def test_covers_asks_for_a_sample_at_or_after_the_stamp():
    history = history_of(pose_at(START))
    assert history.covers(START) and history.covers(START - 1) and not history.covers(START + 1)


def test_late_and_repeated_samples():
    in_order, shuffled = [pose_at(START + i * 10 * MS, i * i) for i in range(50)], PoseHistory()
    for index in np.random.default_rng(0).permutation(50):
        shuffled.add(pose_at(in_order[index].stamp_ns, -1.0))
        shuffled.add(in_order[index])
    assert len(shuffled) == 50
    for stamp in range(START - 20 * MS, START + 520 * MS, 3 * MS):
        ours, theirs = (
            shuffled.lookup(stamp, MAX_SKEW),
            history_of(*in_order).lookup(stamp, MAX_SKEW),
        )
        assert (ours.status, ours.skew_ns) == (theirs.status, theirs.skew_ns)
        if ours.value is not None:
            assert ours.value.position_m.tolist() == theirs.value.position_m.tolist()


def test_samples_older_than_two_seconds_before_the_newest_are_pruned():
    history = PoseHistory()
    for i in range(1000):
        history.add(pose_at(START + i * 10 * MS, i))
    assert len(history) == 201
    assert history.lookup(START + 7990 * MS, 0).value.position_m[0] == 799
    assert history.lookup(START + 7980 * MS, 0).status == "missing"


def test_what_an_image_under_way_may_ask_for_is_kept_up_to_a_minute():
    history = PoseHistory()
    for i in range(10_000):
        history.add(pose_at(START + i * 10 * MS, i), needed_ns=START + min(i, 3000) * 10 * MS)
    assert history.lookup(START + 39_990 * MS, 0).value.position_m[0] == 3999
    assert len(history) == 6201  # MOST_KEPT_S and the usual two seconds
    history.add(pose_at(START + 100_000 * MS), needed_ns=START + 99_000 * MS)
    assert len(history) == 301


def test_a_looped_bag_starts_anew():
    history = history_of(*(pose_at(START + i * 100 * MS, 1.0) for i in range(31)))
    history.add(pose_at(START, 2.0))
    assert len(history) == 1 and not history.covers(START + 1)
    assert history.lookup(START, MAX_SKEW).value.position_m[0] == 2.0


@pytest.mark.parametrize("late_ns, kept", [(SECOND, 21), (SECOND + 1, 1)])
def test_a_late_sample_is_no_jump_back(late_ns, kept):
    history = history_of(*(pose_at(START + i * 100 * MS + 50, 1.0) for i in range(20)))
    newest = START + 1900 * MS + 50
    history.add(pose_at(newest - late_ns + (1 if kept == 21 else 0), 2.0))
    assert len(history) == kept


def test_a_stamp_from_the_future_does_not_stop_the_history_for_good():
    history = history_of(
        pose_at(START), pose_at(START + 10**6 * SECOND), pose_at(START + 10 * MS, 3.0)
    )
    assert history.lookup(START + 10 * MS, 0).value.position_m[0] == 3.0


def test_clear_forgets():
    history = history_of(pose_at(START))
    history.clear()
    assert len(history) == 0 and history.lookup(START, MAX_SKEW).status == "missing"


@pytest.mark.parametrize("keep_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_history_without_a_length_is_refused(keep_s):
    with pytest.raises(ValueError, match="keep_s"):
        PoseHistory(keep_s)


@pytest.mark.parametrize("seed", range(20))
def test_live_gives_what_the_bag_gives(seed):
    """100 Hz of poses come 0 to 30 ms late and in their order; the node waits for a sample that
    covers the image.
    """
    rng = np.random.default_rng(seed)
    stamps = START + np.arange(400) * 10 * MS + rng.integers(-2 * MS, 2 * MS, 400)
    poses = [pose_at(int(s), float(rng.normal()), float(rng.uniform(-180, 180))) for s in stamps]
    # First in, first out: a pose cannot overtake the one before it.
    arrivals = np.maximum.accumulate(stamps + rng.integers(0, 30 * MS, 400))
    images = np.sort(rng.integers(START + 20 * MS, START + 3900 * MS, 60))

    history, arrived, live = PoseHistory(), 0, []
    for image_stamp in images.tolist():
        now = image_stamp + int(rng.integers(5 * MS, 60 * MS))
        deadline = now + 60 * MS
        while True:
            while arrived < len(poses) and arrivals[arrived] <= now:
                history.add(poses[arrived])
                arrived += 1
            if history.covers(image_stamp) or now >= deadline:
                break
            now = min(deadline, int(arrivals[arrived]))
        live.append(history.lookup(image_stamp, MAX_SKEW))

    bag = PoseHistory(keep_s=1000)
    for pose in poses:
        bag.add(pose)
    for image_stamp, ours in zip(images.tolist(), live):
        theirs = bag.lookup(image_stamp, MAX_SKEW)
        assert ours.status == theirs.status == "interpolated" and ours.skew_ns == theirs.skew_ns
        assert ours.value.position_m.tobytes() == theirs.value.position_m.tobytes()
        assert ours.value.quaternion_xyzw.tobytes() == theirs.value.quaternion_xyzw.tobytes()


def test_stamps_that_hardly_advance_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(sample_history, "MOST_SAMPLES", 100)
    history = sample_history.SampleHistory()
    for k in range(1000):
        history.add(5_000_000_000 + k, k)
    assert len(history) == 100 and history.around(5_000_000_999, 0).earlier == 999
    assert history.crowded_out == 900 and history.newest_ns == 5_000_000_999


def test_a_header_without_a_frame_is_taken_where_that_is_asked_for():
    nowhere = pose_message(frame_id="")
    assert refusal(nowhere, "base").reason == "frame"
    assert pose_of(nowhere, "base", accept_empty_frame=True).frame_id == "base"
    assert pose_of(pose_message(), "base", accept_empty_frame=True).frame_id == "base"
    assert pose_of(nowhere, "", accept_empty_frame=True).frame_id == ""
    for expected, said in (("tool", "accepted: 'tool' or none"), ("", "accepted: ''")):
        assert said in str(refusal(pose_message(), expected, True))


def test_what_is_merely_old_is_not_counted_as_crowded_out():
    history = sample_history.SampleHistory()
    for k in range(500):
        history.add(5_000_000_000 + k * 10_000_000, k)
    assert len(history) < 250 and history.crowded_out == 0


@pytest.mark.parametrize("off_ns", [-200, 200])
def test_a_missing_pose_keeps_how_far_the_nearest_was(off_ns):
    history = sample_history.SampleHistory()
    assert history.around(5000, 100).nearest_ns is None
    history.add(5000 + off_ns, "pose")
    assert history.around(5000, 100) == ("missing", None, None, None, 0.0, off_ns)
    assert history.around(5000, 200).status == "held"
