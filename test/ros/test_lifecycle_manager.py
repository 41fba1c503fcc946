"""The node under nav2's lifecycle manager: the same calls in the same order, through the services.

nav2_lifecycle_manager (C++) is not installed here. Its calls were read in its source: each change
has no limit in time, and then the state has to be the wanted one.
"""

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from test.ros.conftest import image_message

NODE = "/vit_encoder"
# The state that each change has to end in.
WANTED = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
}
STARTUP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
RESET = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


class Manager:
    """Changes the node's state as nav2's manager does for one of its nodes."""

    def __init__(self, robot):
        self._robot = robot
        self._change = robot.tester.create_client(ChangeState, f"{NODE}/change_state")
        self._get = robot.tester.create_client(GetState, f"{NODE}/get_state")

    def _call(self, client, request):
        self._robot.until(client.service_is_ready, what=client.srv_name)
        answer = client.call_async(request)
        self._robot.until(answer.done, what=f"the answer of {client.srv_name}")
        return answer.result()

    def state(self) -> int:
        return self._call(self._get, GetState.Request()).current_state.id

    def change(self, *transitions: int) -> bool:
        """Whether all changes succeed; it stops at the first that does not."""
        return all(
            self._call(
                self._change, ChangeState.Request(transition=Transition(id=transition))
            ).success
            and self.state() == WANTED[transition]
            for transition in transitions
        )


def encodes(robot, stamp_ns: int) -> bool:
    robot.publish("/wrist/image", image_message(stamp_ns))
    return bool(robot.frame(stamp_ns))


def test_startup_pause_resume_reset_and_shutdown(rig):
    robot = rig()
    manager = Manager(robot)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert manager.change(*STARTUP)
    robot.matched()
    assert encodes(robot, 1_000_000_000)
    assert manager.change(Transition.TRANSITION_DEACTIVATE)  # pause
    assert manager.change(Transition.TRANSITION_ACTIVATE)  # resume
    assert manager.change(*RESET)
    assert manager.change(*STARTUP)
    assert manager.change(*RESET, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def test_a_configure_that_fails_can_be_tried_again(rig, tiny_checkpoint):
    robot = rig(model__checkpoint="/nowhere")
    manager = Manager(robot)
    assert not manager.change(*STARTUP)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    checkpoint = robot.node.get_parameter("model.checkpoint")
    (done,) = robot.node.set_parameters(
        [type(checkpoint)("model.checkpoint", value=str(tiny_checkpoint))]
    )
    assert done.successful and manager.change(*STARTUP)


@pytest.mark.parametrize("transition", STARTUP)
def test_a_node_that_started_itself_is_refused(rig, transition):
    """Why `autostart` has to be false under a manager. Regression: Jazzy ended the process."""
    robot = rig()
    robot.activate()
    assert not Manager(robot).change(transition)
    assert Manager(robot).state() == State.PRIMARY_STATE_ACTIVE
