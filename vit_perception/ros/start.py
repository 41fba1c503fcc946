"""The executable ``encoder_node``: Ctrl-C ends it with exit status 0 also while its imports (torch: seconds) run."""

import os
import signal


def main() -> int:
    """Import the node, then run it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from vit_perception.ros.encoder_node import main as run_node
    return run_node()


def interrupt_once(*_) -> None:
    """The node's handler of SIGINT: under launch it comes twice, and the second must not cut the teardown short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
