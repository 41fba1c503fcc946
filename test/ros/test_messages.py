import numpy as np
import pytest

from vit_perception.ros import messages
from vit_perception.wire.records import ClassScore, Pose
from vit_perception.wire.tensors import decode_tensor


def test_a_stamp_goes_through_to_the_nanosecond():
    header = messages.header_of(1_234_567_890_987_654_321, "optical")
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (
        1_234_567_890,
        987_654_321,
        "optical",
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_tensor_message_decodes_to_what_was_sent(dtype):
    tensor = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    message = messages.tensor_message(messages.header_of(1, "a"), tensor, dtype)
    np.testing.assert_array_equal(decode_tensor(message), tensor.astype(dtype))


def test_cv_bridges_reading_of_a_tensor_message_equals_ours():
    cv_bridge = pytest.importorskip(
        "cv_bridge", reason="cv_bridge is not installed (it is not among the ROS wheels)"
    )
    tensor = np.random.default_rng(0).normal(size=(257, 384)).astype(np.float32)
    message = messages.tensor_message(messages.header_of(1, "a"), tensor, "float32")
    np.testing.assert_array_equal(cv_bridge.CvBridge().imgmsg_to_cv2(message), tensor)


def test_a_view_and_a_mask():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    view = messages.view_message(messages.header_of(1, "a"), rgb)
    assert (view.encoding, view.step, bytes(view.data)) == ("rgb8", 12, rgb.tobytes())
    mask = messages.mask_message(messages.header_of(1, "a"), np.array([True, False]))
    assert (mask.encoding, mask.height, mask.width, bytes(mask.data)) == (
        "mono8",
        1,
        2,
        b"\xff\x00",
    )


def test_a_pose_and_a_classification():
    pose = Pose(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3, 0.9]), 5, "base")
    message = messages.pose_message(pose)
    assert (message.pose.position.z, message.pose.orientation.x, message.pose.orientation.w) == (
        3.0,
        0.1,
        0.9,
    )
    classes = (ClassScore("cup", 0.75), ClassScore("can", 0.25))
    found = messages.classification_message(messages.header_of(1, "a"), classes)
    assert [(r.class_id, r.score) for r in found.results] == [("cup", 0.75), ("can", 0.25)]
