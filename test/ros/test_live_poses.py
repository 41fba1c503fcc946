"""Live and bag poses are the same: the node over DDS, poses up to 30 ms late."""

import threading
import time

import numpy as np

from test.ros.conftest import image_message, stamped_pose
from vit_perception.streams.pose_history import PoseHistory, pose_of

RUNS, RUN_S = 20, 0.1
PERIOD_NS = 10_000_000


def test_twenty_runs_with_poses_0_to_30_ms_late(rig):
    """``wait_s`` covers the sample period of 10 ms and a delay of 30 ms, and what a busy machine
    adds.
    """
    robot = rig(
        pose_names=["arm"],
        poses__arm__topic="/ee_pose",
        poses__arm__frame_id="base_link",
        poses__arm__wait_s=1.0,
    )
    robot.activate()
    rng = np.random.default_rng(0)
    count = round(RUNS * RUN_S * 1e9 / PERIOD_NS)
    start_ns = 7_000_000_000
    messages = [
        stamped_pose(start_ns + k * PERIOD_NS, x_m=float(x))
        for k, x in enumerate(rng.normal(size=count))
    ]
    # FIFO: a sample is late, but does not overtake the one before it.
    arrivals_s = np.maximum.accumulate(
        np.arange(count) * PERIOD_NS / 1e9 + rng.uniform(0, 0.03, count)
    )
    robot.feel("/ee_pose", messages[0])
    images = robot.tester.create_publisher(type(image_message(1)), "/wrist/image", 10)
    robot.until(
        lambda: (
            images.get_subscription_count()
            and all(s.get_publisher_count() for s in robot.node.subscriptions)
        ),
        what="the subscription",
    )
    publisher, begin_s = robot._publishers["/ee_pose"], time.monotonic()

    def deliver():
        for message, arrival_s in zip(messages[1:], arrivals_s[1:]):
            time.sleep(max(0.0, begin_s + arrival_s - time.monotonic()))
            publisher.publish(message)

    thread = threading.Thread(target=deliver)
    thread.start()
    bag = PoseHistory(keep_s=60)
    for message in messages:
        bag.add(pose_of(message, "base_link"))
    for run in range(RUNS):
        at_s = (run + 0.5) * RUN_S + float(rng.uniform(0, 0.01))
        robot.until(lambda due_s=begin_s + at_s: time.monotonic() >= due_s)
        stamp_ns = start_ns + round(at_s * 1e9)
        images.publish(image_message(stamp_ns))
        sent = robot.until(
            lambda f=robot.frame(stamp_ns): f.poses.get("arm"), what="pose_at_image"
        ).pose
        truth = bag.lookup(stamp_ns, 50_000_000).value
        assert sent.position.x == truth.position_m[0]
        assert [getattr(sent.orientation, a) for a in "xyzw"] == truth.quaternion_xyzw.tolist()
    thread.join()
