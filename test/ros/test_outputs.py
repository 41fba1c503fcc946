"""What the node does when DDS does not take a message."""

from test.ros.conftest import MILLISECOND_NS, image_message
from test.ros.test_faults import ARM, STAMP_NS, state_of
from test.waiting import wait_until
from vit_perception.ros.outputs import RCLError


def test_a_message_that_dds_does_not_take_is_lost_and_the_node_goes_on(rig, monkeypatch, capfd):
    """A reliable publish fails where a thin link does not take it in time: the node went to
    inactive then. Seen with a small send buffer; here the refusal is made.
    """
    robot = rig(**ARM)
    robot.activate()
    publishers = robot.node._outputs._publishers
    tokens = next(p for topic, p in publishers.items() if topic.name == "tokens")

    def refuse(message):
        raise RCLError("Failed to publish: cannot publish data")

    with monkeypatch.context() as refusing:
        refusing.setattr(tokens, "publish", refuse)
        robot.publish("/wrist/image", image_message(STAMP_NS))
        said = ""

        def warned():
            nonlocal said
            said += "".join(capfd.readouterr())
            return "/vit_encoder/tokens: a message was not sent" in said

        wait_until(warned, "the warning")
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    assert robot.frame(STAMP_NS + MILLISECOND_NS).tokens is not None
    assert state_of(robot.node) == "active"
