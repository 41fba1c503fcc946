"""Our types as messages. Every header is the camera image's own: stamp and frame go through
unchanged.
"""

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import Header
from vision_msgs.msg import Classification, ObjectHypothesis, VisionInfo

from vit_perception.config.settings import StateSettings
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, ClassScore, JointState, Pose
from vit_perception.wire.tensors import TensorFields, encode_labels, encode_mask, encode_tensor


def header_of(stamp_ns: int, frame_id: str) -> Header:
    """A header with the stamp in ns and the frame given."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def tensor_message(header: Header, tensor: np.ndarray, dtype: str) -> Image:
    """``tensor`` (T, D) as docs/wire_format.md says, in ``dtype`` float32 or float16."""
    return _image(header, encode_tensor(tensor, dtype))


def mask_message(header: Header, mask: np.ndarray) -> Image:
    """``mask`` (N,) bool as a 1 × N mono8 image."""
    return _image(header, encode_mask(mask))


def dense_message(header: Header, values: np.ndarray) -> Image:
    """Depth (H, W) float32 as 32FC1, or labels (H, W) uint8 or uint16 as mono8 or mono16."""
    return _image(
        header, encode_tensor(values) if values.dtype == np.float32 else encode_labels(values)
    )


def vision_info_message(header: Header, method: str, labels_at: str) -> VisionInfo:
    """Which model made a segmentation, and where its labels are to be read."""
    return VisionInfo(header=header, method=method, database_location=labels_at)


def view_message(header: Header, rgb: np.ndarray) -> Image:
    """``rgb`` (H, W, 3) uint8 as rgb8, for people."""
    height, width = rgb.shape[:2]
    return _image(
        header, TensorFields(height, width, "rgb8", 0, 3 * width, array.array("B", rgb.tobytes()))
    )


def _image(header: Header, fields: TensorFields) -> Image:
    message = Image(
        header=header,
        height=fields.height,
        width=fields.width,
        encoding=fields.encoding,
        is_bigendian=fields.is_bigendian,
        step=fields.step,
    )
    # Assigned, not passed: the setter takes an array.array('B') as it is.
    message.data = fields.data
    return message


def classification_message(header: Header, classes: tuple[ClassScore, ...]) -> Classification:
    """Top classes, best first."""
    return Classification(
        header=header,
        results=[ObjectHypothesis(class_id=c.class_id, score=c.score) for c in classes],
    )


def pose_message(pose: Pose) -> PoseStamped:
    """``pose`` with its own stamp and frame."""
    message = PoseStamped(header=header_of(pose.stamp_ns, pose.frame_id))
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = map(float, pose.position_m)
    orientation.x, orientation.y, orientation.z, orientation.w = map(float, pose.quaternion_xyzw)
    return message


def state_message(state: JointState, settings: StateSettings) -> JointStateMessage:
    """``state`` with its own stamp and frame: the joints and fields of ``settings``, in their
    order.
    """
    message = JointStateMessage(
        header=header_of(state.stamp_ns, state.frame_id), name=list(settings.joints)
    )
    for field, numbers in zip(settings.fields, state.numbers.reshape(len(settings.fields), -1)):
        setattr(message, field, array.array("d", numbers))
    return message
