"""The pictures for people, made on a thread of their own: no frame waits for them, and some frames
have none.
"""

import threading
from collections.abc import Callable, Sequence

from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from vit_perception.files.errors import traced

LONGEST_VIEW_S = 5.0  # a view takes a second at most; should one take longer, nobody waits for it


class ViewThread:
    """Makes and publishes the views of the newest frame. While it is at one, the frame that waits
    is replaced.

    The thread begins with the first frame that somebody looks at. ``failed`` is given the traceback
    of a view that raised.
    """

    def __init__(self, failed: Callable[[str], None]):
        self._failed = failed
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._newest: Sequence[tuple[Publisher, Callable[[], Image]]] = ()
        self._thread: threading.Thread | None = None
        self._stop = False

    def show(self, views: Sequence[tuple[Publisher, Callable[[], Image]]]) -> None:
        """Have each view made and sent to its publisher, soon or never. It does not wait.

        The functions run on the thread later: they must not read what the next frame overwrites.
        """
        with self._changed:
            # One that has not ended yet takes nothing more: there are never two.
            if self._thread is None or not self._thread.is_alive():
                self._stop = False
                self._thread = threading.Thread(target=self._run, name="views", daemon=True)
                self._thread.start()
            if not self._stop:
                self._newest = views
                self._changed.notify()

    def stop(self) -> None:
        """End the thread. After it nothing is published; :meth:`show` begins anew."""
        with self._changed:
            thread, self._stop, self._newest = self._thread, True, ()
            self._changed.notify()
        if thread is not None:
            with self._sending:
                pass  # what is being sent goes out before the publishers are taken down
            thread.join(LONGEST_VIEW_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._stop)
                views, self._newest = self._newest, ()
                if self._stop:
                    return
            for publisher, make in views:
                try:
                    message = make()
                    with self._sending:
                        if self._stop:
                            return
                        publisher.publish(message)
                except Exception as error:
                    if not self._stop:
                        self._failed(traced(error))
