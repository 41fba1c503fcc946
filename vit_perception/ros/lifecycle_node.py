"""A lifecycle node that lets go of its name when it is destroyed."""

from rclpy.lifecycle import LifecycleNode


class ReleasedLifecycleNode(LifecycleNode):
    def destroy_node(self) -> None:
        """Destroy what the node has in ROS, its state machine too.

        rclpy leaves the state machine to the garbage collector. Until that comes by, rcl holds the
        node's name, and the next node of that name in this process has no /rosout.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()
