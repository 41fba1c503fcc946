"""The executable ``encoder_node``: one Ctrl-C or SIGTERM ends it with exit status 0, whatever it is at.

    python -m vit_perception.ros.start --ros-args --params-file params.yaml -p autostart:=true
"""

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vit_perception.ros.encoder_node import EncoderNode


def main(args: list[str] | None = None) -> int:
    """Import the node (torch: seconds), make it and let it run until it is told to end."""
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, lambda *_: os._exit(0))
    import rclpy

    from vit_perception import telemetry
    telemetry.off()
    from vit_perception.ros.encoder_node import EncoderNode

    node, begun = None, False
    try:
        # rclpy's handlers call those that they find as well.
        signal.signal(signal.SIGINT, _interrupt_once)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        rclpy.init(args=args)
        begun = True
        node = EncoderNode()
        _spin(node)
    except KeyboardInterrupt:
        pass
    except Exception:
        # A signal while the node is being made takes DDS away from under it.
        if rclpy.ok() or not begun:
            raise
    finally:
        _end(node)
    return 0


def _spin(node: "EncoderNode") -> None:
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def _end(node: "EncoderNode | None") -> None:
    """Take the node and DDS down. Does not return where an interrupted configure still builds an engine."""
    import rclpy
    from rclpy.signals import uninstall_signal_handlers

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uninstall_signal_handlers()
    closed = True
    try:
        if node is not None:
            closed = node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    finally:
        if not closed:
            # Python would wait for the thread that builds. What it leaves is whole, or cleared by the next build.
            os._exit(0)


def _interrupt_once(*_) -> None:
    """Under launch SIGINT comes twice, and the second must not cut the teardown short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
