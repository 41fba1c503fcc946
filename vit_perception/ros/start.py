"""The executable ``encoder_node``: Ctrl-C ends it with exit status 0 also while its imports (torch: seconds) run."""

import os
import signal


def main() -> int:
    """Import the node, then run it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from vit_perception.ros.encoder_node import main as run_node
    # rclpy calls the handler that it finds as well; that one must not cut the teardown short.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_node()


if __name__ == "__main__":
    raise SystemExit(main())
