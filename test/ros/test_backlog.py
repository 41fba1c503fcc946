"""A node that had no time for its samples takes all that wait at once."""

from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from test.ros.conftest import MILLISECOND_NS, stamped_pose
from test.waiting import wait_until
from vit_perception.ros.encoder_node import EncoderNode
from vit_perception.ros.qos import sample_qos

WAITING = 100


def test_one_turn_takes_the_samples_that_wait(tiny_checkpoint):
    """Regression: one sample a turn left a busy node's poses seconds older than its images."""
    parameters = {
        "camera_names": ["wrist"],
        "cameras.wrist.topic": "/wrist/image",
        "pose_names": ["arm"],
        "poses.arm.topic": "/ee_pose",
        "poses.arm.frame_id": "base_link",
        "model.checkpoint": str(tiny_checkpoint),
        "engine.backend": "torch",
        "engine.precision": "float32",
    }
    node = EncoderNode(
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()]
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
        pose = stamped_pose(MILLISECOND_NS)
        publisher = node.create_publisher(type(pose), "/ee_pose", sample_qos())
        account = node._samples.accounts["arm"]
        wait_until(
            lambda: account.received,
            "the first pose",
            step=lambda: (publisher.publish(pose), executor.spin_once(timeout_sec=0.05)),
        )
        before = account.received
        for number in range(2, 2 + WAITING):
            publisher.publish(stamped_pose(number * MILLISECOND_NS))
        turns = 0  # in which samples were taken
        while account.received < before + WAITING:
            earlier = account.received
            executor.spin_once(timeout_sec=0.05)
            turns += account.received > earlier
        assert turns < WAITING / 4
    finally:
        executor.shutdown()
        node.close()
        node.destroy_node()
