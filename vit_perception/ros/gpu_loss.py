"""The end of a node whose process can use the GPU no more: what it says, counts, and leaves to the
next process.
"""

import threading
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode

from vit_perception.engines.cuda.fault import EXIT_STATUS, GpuLost, lost
from vit_perception.files.errors import printable
from vit_perception.ros import diagnostics
from vit_perception.ros.reporter import Reporter
from vit_perception.streams.camera_sync import GPU_LOST, CameraSync


class GpuLoss:
    """Once for each node. After :meth:`is_lost_by` has found it so, the executor's thread ends the
    node.

    It calls ``stop``, which ends receiving and sends the last diagnostics, and takes the context
    down, which ends whatever spins the node. ``exit_status`` is 0, or what the process has to end
    with; ``message`` is what the diagnostics say then.
    """

    def __init__(
        self,
        node: LifecycleNode,
        reporter: Reporter,
        changed: threading.Condition,
        stop: Callable[[], object],
    ):
        self.exit_status = 0
        self.message = ""
        self._error: GpuLost | None = None
        self._node, self._reporter, self._changed, self._stop = node, reporter, changed, stop
        self._once = threading.Lock()
        self._declared = node.create_guard_condition(self._end)

    def is_lost_by(self, error: Exception, sync: CameraSync | None) -> bool:
        """Whether only a new process gets over ``error``; the first time it is said, and ends the
        node. Any thread.

        What waits in ``sync`` is dropped, and the line has the books of every camera.
        """
        gone = lost(error)
        if gone is None:
            return False
        with self._once:
            if self.exit_status:
                return True
            self._error, self.exit_status = gone, EXIT_STATUS
            self.message = f"{gone}; the process ends with exit status {EXIT_STATUS}"
        books = ["none was received"]
        if sync is not None:
            with self._changed:
                sync.clear(GPU_LOST)
                books = [books_of(camera, sync) for camera in sync.accounts]
        self._node.get_logger().fatal(
            printable(f"{self.message}, to be started again. Images: {'; '.join(books)}")
        )
        self._declared.trigger()
        return True

    def failed(self, transition: str, error: Exception, sync: CameraSync | None) -> None:
        """Say that ``transition`` failed with ``error``, and end the node where only a new process
        gets over it.
        """
        if not self.is_lost_by(error, sync):
            self._reporter.failed(transition, error)

    def check(self) -> None:
        """Raise GpuLost where the GPU is lost: no engine is opened in this process any more."""
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        self._reporter.publish(
            diagnostics.engine_status(self._reporter.label, None, self.message, diagnostics.ERROR)
        )
        self._stop()
        self._reporter.wait_until_sent()
        self._node.context.try_shutdown()


def books_of(camera: str, sync: CameraSync) -> str:
    """``wrist: 3 received = 1 published + 2 dropped (engine_error 1, gpu_lost 1)``. Call with the
    lock held.
    """
    account, pending = sync.accounts[camera], sync.pending(camera)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(account.dropped.items()))
    return (
        f"{camera}: {account.received} received = {account.published} published + "
        f"{account.dropped.total()} dropped"
        f"{f' ({reasons})' if reasons else ''}{f' + {pending} pending' if pending else ''}"
    )
