import numpy as np
import pytest

from vit_perception.ros import messages
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import decode_tensor, encode_mask, encode_tensor, encode_view
from vit_perception.wire.topics import image_fields


def test_a_stamp_goes_through_to_the_nanosecond():
    header = messages.header_of(1_234_567_890_987_654_321, "optical")
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (
        1_234_567_890,
        987_654_321,
        "optical",
    )


def image_of(fields):
    return messages.message_of("sensor_msgs/msg/Image", image_fields(header_fields(1, "a"), fields))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_tensor_message_decodes_to_what_was_sent(dtype):
    tensor = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    message = image_of(encode_tensor(tensor, dtype))
    np.testing.assert_array_equal(decode_tensor(message), tensor.astype(dtype))
    assert (message.header.stamp.nanosec, message.header.frame_id) == (1, "a")


def test_the_data_of_an_image_is_not_copied_into_the_message():
    fields = encode_tensor(np.ones((2, 3), np.float32))
    assert image_of(fields).data is fields.data


def test_cv_bridges_reading_of_a_tensor_message_equals_ours():
    cv_bridge = pytest.importorskip(
        "cv_bridge", reason="cv_bridge is not installed (it is not among the ROS wheels)"
    )
    tensor = np.random.default_rng(0).normal(size=(257, 384)).astype(np.float32)
    message = image_of(encode_tensor(tensor))
    np.testing.assert_array_equal(cv_bridge.CvBridge().imgmsg_to_cv2(message), tensor)


def test_a_view_and_a_mask():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    view = image_of(encode_view(rgb))
    assert (view.encoding, view.step, bytes(view.data)) == ("rgb8", 12, rgb.tobytes())
    assert (view.height, view.width) == (2, 4)
    mask = image_of(encode_mask(np.array([True, False])))
    assert (mask.encoding, mask.height, mask.width, bytes(mask.data)) == (
        "mono8",
        1,
        2,
        b"\xff\x00",
    )


def test_nested_fields_and_lists_of_messages():
    pose = {"position": {"z": 3.0}, "orientation": {"x": 0.1, "w": 0.9}}
    message = messages.message_of("geometry_msgs/msg/PoseStamped", {"pose": pose})
    orientation = message.pose.orientation
    assert (message.pose.position.z, orientation.x, orientation.w) == (3.0, 0.1, 0.9)
    results = [{"class_id": "cup", "score": 0.75}, {"class_id": "can", "score": 0.25}]
    found = messages.message_of("vision_msgs/msg/Classification", {"results": results})
    assert [(r.class_id, r.score) for r in found.results] == [("cup", 0.75), ("can", 0.25)]
