"""The executable ``encoder_node``: one Ctrl-C or SIGTERM ends it with exit status 0, whatever it is
at, within 5 s.

It ends by itself with exit status 75 where its process can use the GPU no more
(:mod:`vit_perception.engines.cuda.fault`).

    python -m vit_perception.ros.start --ros-args --params-file params.yaml -p autostart:=true

Where the node's worker does not come back (an engine that hangs or is being built, a slow picture),
the process ends without it, and a line on stderr says what it was at.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from vit_perception.files.errors import missing_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from vit_perception.ros.encoder_node import EncoderNode

END_S = 4.5  # after the signal; then the process ends wherever its threads are
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(args: list[str] | None = None) -> int:
    """Import the node (torch: seconds), make it and let it run until it is told to end.

    Where ROS or another package is not installed, one line says how to get it.
    """
    for sent in SIGNALS:
        signal.signal(sent, lambda *_: os._exit(0))
    try:
        return _run(args)
    except ModuleNotFoundError as error:
        print(missing_package("encoder_node", error), file=sys.stderr)
        return 1


def _run(args: list[str] | None) -> int:
    # Here and not above, so that a package that they need and that is missing is said in one line.
    from vit_perception.files.heartbeat import Heartbeat
    from vit_perception.files.log import PrintedLog
    from vit_perception.ros.health import first_words

    given = sys.argv[1:] if args is None else args
    if first_words.wants_help(given):
        print(first_words.HELP, end="")
        return 0
    files = first_words.parameter_files(given)
    if missing := first_words.missing_file(files):
        print(missing, file=sys.stderr)
        return 1
    print(first_words.STARTING, flush=True)
    with Heartbeat(PrintedLog(), what=first_words.LOADING):
        import rclpy

        from vit_perception.files import telemetry
        from vit_perception.pipeline.timing import trace

        telemetry.off()
        trace.follow(PrintedLog())
        from vit_perception.ros.encoder_node import EncoderNode

    node, begun, status = None, False, 0

    def end_unless_begun(*_) -> None:
        # rclpy's handlers call those that they find as well: until they are in place this ends the
        # process, and then they do.
        if not begun:
            os._exit(0)

    try:
        signal.signal(signal.SIGTERM, end_unless_begun)
        signal.signal(signal.SIGINT, _interrupt_once)
        rclpy.init(args=args)
        begun = True
        threading.Thread(
            target=_watch, args=(lambda: (node, status),), name="end", daemon=True
        ).start()
        node = EncoderNode(parameter_files=files)
        _spin(node)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        # A signal while the node is being made takes DDS away from under it.
        if rclpy.ok() or not begun:
            status = 1
            if begun:
                raise
            # The arguments that ROS cannot read: the first line says it, the others repeat it.
            print(f"encoder_node: {str(error).splitlines()[0]}", file=sys.stderr)
    finally:
        _end(node)
    return status


def _watch(now: "Callable[[], tuple[EncoderNode | None, int]]") -> None:
    """The last resort, on a thread of its own: the process ends END_S after it has to, whatever
    hangs.
    """
    import rclpy

    def wanted() -> bool:
        node, _ = now()
        return rclpy.ok() and not (node and node.exit_status)

    while wanted():
        time.sleep(0.1)
    time.sleep(END_S)
    _leave(*now())


def _leave(node: "EncoderNode | None", status: int) -> None:
    """End the process at once with ``status``. Python would wait for the worker's thread, and
    nothing can stop that.

    What an interrupted build leaves behind is whole, or cleared by the next build. Of a node whose
    GPU is lost the status is the node's own.
    """
    why = "has lost the GPU" if node and node.exit_status else "told to end"
    at = "" if node is None else f", the worker being at: {node.doing}"
    print(
        f"vit_perception: {why}, and ends without waiting any longer{at}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(node.exit_status if node and node.exit_status else status)


def _spin(node: "EncoderNode") -> None:
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def _end(node: "EncoderNode | None") -> None:
    """Take the node and DDS down. Does not return where the worker does not come back."""
    import rclpy
    from rclpy.signals import uninstall_signal_handlers

    from vit_perception.engines.cuda.fault import end_process

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
            _leave(node, 0)
        if node is not None and node.exit_status:
            end_process(
                node.exit_status
            )  # Python's own end frees what lies on the GPU, which may hang or abort


def _interrupt_once(*_) -> None:
    """Under launch SIGINT comes twice, and the second must not cut the teardown short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
