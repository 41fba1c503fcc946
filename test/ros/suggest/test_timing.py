"""Settings of grouping and waiting from rates and stamps, and what is said of clocks."""

import pytest

from test.ros.suggest.topics import image, joints, pose
from vit_perception.ros.suggest.seen import Arrival, TopicSeen
from vit_perception.ros.suggest.timing import clock_findings, sample_settings, sync_settings


def values(settings):
    return {setting.name: setting.value for setting in settings}


def test_a_topic_knows_its_rate_and_delay():
    topic = image("/a", 20.0, delay_s=0.03)
    assert topic.period_s == pytest.approx(0.05)
    assert topic.arrived_hz == pytest.approx(20.0)
    assert topic.delay_s == pytest.approx(0.03)
    # A recording that begins anew, and repeated stamps.
    topic.arrivals.append(topic.arrivals[0])
    topic.arrivals.append(topic.arrivals[0])
    assert topic.period_s == pytest.approx(0.05)
    empty = TopicSeen("/b", "sensor_msgs/msg/Image")
    assert (empty.period_s, empty.arrived_hz, empty.delay_s) == (None, 0.0, None)
    empty.arrivals.append(Arrival(1, 2))
    assert (empty.period_s, empty.arrived_hz) == (None, 0.0)


def test_drivers_that_share_a_topic_are_slower_than_the_topic():
    both = joints("/joint_states", "a", drivers={("a",), ("b",)})
    assert both.period_s == pytest.approx(0.02)


def test_one_camera_needs_no_grouping():
    assert sync_settings([image("/a", 30.0)]) == []


def test_cameras_that_are_triggered_together_get_half_a_period_of_the_fastest():
    found = sync_settings([image("/a", 20.0), image("/b", 20.0, phase_s=0.002)])
    assert values(found) == {"sync.slop_s": 0.025, "sync.policy": "wait"}
    assert "2 ms apart" in found[0].why


def test_free_running_cameras_get_half_a_period_of_the_second_slowest():
    cameras = [image("/a", 30.0, phase_s=0.011), image("/b", 15.0, phase_s=0.02), image("/c", 10.0)]
    found = sync_settings(cameras)
    assert values(found)["sync.slop_s"] == 0.034
    assert "second slowest" in found[0].why


def test_a_slow_camera_is_not_silent_between_two_images():
    assert values(sync_settings([image("/a", 2.0)])) == {"sync.silent_after_s": 1.5}
    assert values(sync_settings([image("/a", 0.01)])) == {"sync.silent_after_s": 60.0}


def test_without_rates_the_default_stays_and_says_so():
    few = image("/b")
    while len(few.arrivals) > 2:
        few.arrivals.pop()
    found = sync_settings([image("/a"), few])
    assert values(found) == {"sync.slop_s": 0.02, "sync.policy": "wait"}
    assert "too few images" in found[0].why


def test_samples_that_the_defaults_suit_need_nothing():
    assert sample_settings("poses.arm", pose("/p", 100.0), [image("/a", delay_s=0.03)]) == []


def test_a_slow_stream_may_be_further_from_the_image():
    found = sample_settings("poses.arm", pose("/p", 10.0), [image("/a", delay_s=0.03)])
    assert values(found) == {"poses.arm.max_skew_s": 0.06}


def test_samples_that_come_late_are_waited_for():
    found = sample_settings(
        "poses.arm", pose("/p", 100.0, delay_s=0.1), [image("/a", delay_s=0.02)]
    )
    assert values(found) == {"poses.arm.wait_s": 0.09}
    assert "80 ms later than images" in found[0].why


def test_no_wait_makes_up_for_clocks_that_differ():
    assert sample_settings("poses.arm", pose("/p", delay_s=3.0), [image("/a")]) == []


def test_good_clocks_are_only_told_apart():
    wrong, known = clock_findings([image("/a", delay_s=0.03)], [pose("/p", delay_s=0.01)])
    assert wrong == []
    assert known == ["/p: its messages come 20 ms earlier than images of the same stamp"]


def test_a_recording_does_no_harm():
    days_s = 30 * 86400.0
    wrong, known = clock_findings(
        [image("/a", delay_s=days_s + 0.03)], [pose("/p", delay_s=days_s)]
    )
    assert wrong == []
    assert len(known) == 1 and known[0].startswith("all stamps are 30 days behind this machine's")


@pytest.mark.parametrize(
    "delay_s, said",
    [
        (4.0, "/p: its stamps are 4.0 s behind the images': none is near an image"),
        (-4.0, "/p: its stamps are 4.0 s ahead of the images': none is near an image"),
    ],
)
def test_a_pose_with_another_clock_is_named(delay_s, said):
    wrong, _ = clock_findings([image("/a")], [pose("/p", delay_s=delay_s)])
    assert wrong[0].startswith(said)
    assert wrong[1].startswith("/p: its stamps are 4.0 s ") and "this machine" in wrong[1]


def test_a_camera_with_another_clock_is_named():
    wrong, _ = clock_findings([image("/a"), image("/b", delay_s=-2.0)], [])
    assert "/b: its stamps are 2.0 s ahead of those of /a" in wrong[0]


def test_stamps_slightly_ahead_of_this_machine_are_named():
    wrong, _ = clock_findings([image("/a", delay_s=0.01)], [pose("/p", delay_s=-0.02)])
    assert wrong == ["/p: its stamps are 20 ms ahead of this machine's clock"]


def test_nothing_is_said_of_nothing():
    assert clock_findings([], []) == ([], [])
    assert clock_findings([], [pose("/p")])[0] == []
