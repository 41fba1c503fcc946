"""What a recording is read as if no parameter file says it."""

import pytest
from geometry_msgs.msg import WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from test.ros.test_recording_settings import poses_bag
from vit_perception.datasets.without_parameters import settings_without_parameters
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

LEFT_OUT = {
    "/joint_states": (
        JointState,
        "left out: /joint_states (sensor_msgs/msg/JointState); to take it, give a parameter file "
        "with state_names: [NAME], states.NAME.topic: /joint_states, states.NAME.joints",
    ),
    "/wrench": (
        WrenchStamped,
        "left out: /wrench (geometry_msgs/msg/WrenchStamped); to take it, give a parameter file "
        "with wrench_names: [NAME], wrenches.NAME.topic: /wrench, wrenches.NAME.frame_id",
    ),
}


@pytest.mark.parametrize("topic", LEFT_OUT)
def test_what_needs_a_parameter_file_is_named_with_its_parameters(tmp_path, caplog, topic):
    kind, line = LEFT_OUT[topic]
    plain = poses_bag(tmp_path / "plain", ["base"])
    bag = tmp_path / "bag"
    with BagReader(plain) as given, BagWriter(bag) as out:
        for each in given.raw(list(given.topics)):
            out.write(each.topic, each.type_name, each.data, each.stamp_ns)
        out.write(
            topic,
            f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}",
            serialize_message(kind()),
            each.stamp_ns,
        )
    settings = settings_without_parameters(bag)
    assert ([c.name for c in settings.cameras], [p.name for p in settings.poses]) == (
        ["wrist"],
        ["arm"],
    )
    assert caplog.messages == [line]
    caplog.clear()
    settings_without_parameters(plain)
    assert caplog.messages == []
