"""The executable ``encoder_node``: one Ctrl-C or SIGTERM ends it with exit status 0, whatever it is at.

    python -m vit_perception.ros.start --ros-args --params-file params.yaml -p autostart:=true
"""

import os
import signal


def main(args: list[str] | None = None) -> int:
    """Import the node (torch: seconds), make it and let it run until it is told to end."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import uninstall_signal_handlers

    from vit_perception.ros.encoder_node import EncoderNode

    # Before rclpy's, which calls the handler that it finds as well.
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        rclpy.init(args=args)
    except KeyboardInterrupt:
        return 0
    node, closed = None, True
    try:
        node = EncoderNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal while the node is being made takes DDS away from under it.
        if rclpy.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        uninstall_signal_handlers()
        if node is not None:
            closed = node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    if not closed:
        # Python would wait for the thread that builds. The engine cache survives it: entries are whole or absent.
        os._exit(0)
    return 0


def _interrupt_once(*_) -> None:
    """Under launch SIGINT comes twice, and the second must not cut the teardown short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
