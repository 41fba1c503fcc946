"""Thousands of bad images and poses whose stamps hardly advance: the node publishes afterwards, and
its books hold.
"""

from geometry_msgs.msg import PoseStamped

from test.ros.conftest import Image, image_message, stamped_pose
from test.ros.test_bad_input import ARM
from test.ros.test_malformed_live import wait_until

FIRST_NS = 5_000_000_000
COUNT, BURST = 5000, 10
GOOD_NS = FIRST_NS + 10 * COUNT


def test_a_flood_of_bad_images_and_poses_is_counted_and_the_next_frame_goes_out(rig):
    robot = rig(**ARM, poses__arm__wait_s=0.0)
    robot.activate()
    images, poses = robot.node._sync.accounts["wrist"], robot.node._samples.accounts["arm"]
    send = {}
    for topic, kind in (("/wrist/image", Image), ("/ee_pose", PoseStamped)):
        send[topic] = robot.tester.create_publisher(kind, topic, 100)
        robot.until(
            lambda: (
                send[topic].get_subscription_count()
                and all(
                    s.get_publisher_count()
                    for s in robot.node.subscriptions
                    if s.topic_name == topic
                )
            ),
            what=topic,
        )
    for first in range(0, COUNT, BURST):
        for k in range(first, first + BURST):
            bad_image, pose = image_message(FIRST_NS + k), stamped_pose(FIRST_NS + k)
            if k % 2:
                bad_image.encoding = "thermal12"
                pose.pose.orientation.w = 2.0
            else:
                bad_image.header.frame_id = "c" * 1000
            send["/wrist/image"].publish(bad_image)
            send["/ee_pose"].publish(pose)
        # In bursts: a best-effort queue that overflows would be no fault of the messages.
        wait_until(
            lambda: images.received == poses.received == first + BURST, f"message {first + BURST}"
        )
    robot.feel("/ee_pose", stamped_pose(GOOD_NS))
    robot.publish("/wrist/image", image_message(GOOD_NS))
    assert robot.tester.layout.split(robot.frame(GOOD_NS).tokens)["arm/pose"].any()
    books = robot.accounts("wrist", received=COUNT + 1, published=1, pending=0)
    assert books["dropped.frame"] == COUNT // 2
    assert sum(n for reason, n in books.items() if reason.startswith("dropped.")) == COUNT
    robot.until(
        lambda: robot.diagnostic("arm arm").get("received") == str(COUNT + 1),
        what="the arm's books",
    )
    figures = robot.diagnostic("arm arm")
    assert figures["refused.quaternion"] == str(COUNT // 2) and figures["interpolated"] == "1"
    assert len(robot.node._samples._streams.by_name["arm"].history) == COUNT // 2 + 1
