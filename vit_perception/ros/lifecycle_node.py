"""A lifecycle node that lets go of its name when destroyed, and outlives a wrong transition."""

from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


class ReleasedLifecycleNode(LifecycleNode):
    def destroy_node(self) -> None:
        """Destroy what the node has in ROS, its state machine too.

        rclpy leaves the state machine to the garbage collector. Until that comes by, rcl holds the
        node's name, and the next node of that name in this process has no /rosout.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    # The service ~/change_state calls it by this name, which Python makes of rclpy's private one.
    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:
        """Change the state as a client asks.

        In Humble and Jazzy a transition that the state does not have raises through the executor,
        and any client could end the process with it. Kilted refuses it, as this does.
        """
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except rclpy_implementation.RCLError:
            _, state = self._state_machine.current_state
            asked = request.transition.label or request.transition.id
            self.get_logger().error(f"transition {asked} is refused: the node is {state}")
            response.success = False
            return response
