"""The thread that opens, verifies, runs and closes the engine, so that receiving never waits for
inference.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from vit_perception.files.errors import OperationFailed
from vit_perception.pipeline.frame_state import ExtrasAt, FrameCalls, Step
from vit_perception.pipeline.frames import FrameLoop
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.timing.latencies import StageLatencies
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.image_extras import ImageExtras
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.wire.records import FrameResult

STOP_S = 10.0  # how long a transition waits for the frame in hand: on a slow CPU one takes seconds
ENDING_S = 1.5  # the same where the process is to end


class WorkerStuck(OperationFailed):
    """The thread does not come back from what it does: an engine that hangs, a picture that takes
    minutes.
    """


class EncoderWorker:
    """One thread, and two more while frames are encoded.

    ``changed`` is the lock around ``sync``, notified when an image or a pose has come.
    ``publish`` sends a frame; ``warn`` takes the cameras' names and the text of what was wrong with
    their images; ``failed`` is told what ended the work before ``stop`` was called; ``wanted``
    gives False once the process is told to end.
    """

    def __init__(
        self,
        changed: threading.Condition,
        publish: Callable[[FrameResult], None],
        warn: Callable[[Collection[str], str], None],
        failed: Callable[[Exception], None],
        wanted: Callable[[], bool] = lambda: True,
    ):
        self._changed = changed
        self._calls = FrameCalls(publish, warn, failed)
        self._wanted = wanted
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        # What the thread was last given: to open, to run, or to close.
        self._job: Future | None = None
        self._opens = False
        self._loop: FrameLoop | None = None
        self._stage = Step()
        self._stage.at("nothing")
        self._changes: deque[Callable[[], None]] = deque()
        self.latencies = StageLatencies()
        self.camera_latencies: dict[str, StageLatencies] = {}

    # -- what it is at -----------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Does the thread do anything, be it wait for images? Nothing can stop an engine that hangs
        in a run.
        """
        return self._job is not None and not self._job.done()

    @property
    def opening(self) -> bool:
        """Does it still open an engine? After an interrupt it may, and nothing can stop a runtime
        that builds one.
        """
        return self._opens and self.busy

    @property
    def doing(self) -> str:
        """What it is at, and for how long: ``prepare of camera wrist, for 12.3 s``. Any thread may
        ask.
        """
        loop = self._loop
        stage, since_s = self._stage.now if loop is None else loop.doing
        return f"{stage}, for {time.monotonic() - since_s:.1f} s"

    def at(self, stage: str) -> None:
        """From now on it is at ``stage``."""
        self._stage.at(stage)

    def check_idle(self) -> None:
        """Raise WorkerStuck while the thread is at anything: two jobs never share an engine."""
        if self.busy:
            raise WorkerStuck(
                f"the worker has not come back from: {self.doing}; accepted: once it has, or in a "
                "new process"
            )

    def _begin(self, stage: str, job: Callable, *arguments: Any) -> Future:
        self.check_idle()
        self.at(stage)
        self._job = self._thread.submit(job, *arguments)
        return self._job

    def _wait(self, job: Future, limit_s: float) -> None:
        """Until ``job`` is done. Raises WorkerStuck after ``limit_s``, or ENDING_S where the node
        is to end.
        """
        begun_s = time.monotonic()
        while not wait([job], timeout=0.05).done:
            waited_s = time.monotonic() - begun_s
            if waited_s >= limit_s or (waited_s >= ENDING_S and not self._wanted()):
                self.check_idle()

    # -- the jobs ----------------------------------------------------------------------------------

    def open(self, make: Callable[[], Pipeline]) -> Pipeline:
        """Run ``make`` on the thread that will use what it opens, and wait for it. Raises what it
        raises.

        Raises KeyboardInterrupt once ``wanted`` gives False (looked at every 0.1 s); ``make`` may
        run on for minutes. Raises WorkerStuck where the thread has not come back from what it did
        before.
        """
        job, self._opens = self._begin("open", make), True
        while not wait([job], timeout=0.1).done:
            if not self._wanted():
                raise KeyboardInterrupt
        self._opens = False
        return job.result()

    def start(
        self,
        pipeline: Pipeline,
        sync: CameraSync,
        samples: SampleInputs,
        extras_at: ExtrasAt = lambda stamps_ns: ImageExtras({}, {}),
    ) -> None:
        """Begin to encode what ``sync`` offers. Raises WorkerStuck as :meth:`open` does."""
        self.check_idle()
        self.latencies = StageLatencies()
        self.camera_latencies = {camera: StageLatencies() for camera in sync.cameras}
        samples.keep_for(sync.oldest_ns)
        pipeline.parts.forget()  # of the time before a deactivate
        self._loop = FrameLoop(
            pipeline=pipeline,
            sync=sync,
            samples=samples,
            changed=self._changed,
            changes=self._changes,
            overlap=pipeline.leaves_a_core,
            calls=self._calls,
            latencies=self.latencies,
            camera_latencies=self.camera_latencies,
            extras_at=extras_at,
        )
        self._begin("waiting for images", self._run, self._loop)

    def change(self, action: Callable[[], None]) -> None:
        """Run ``action`` between two frames, so that no frame is made half before and half after
        it.
        """
        with self._changed:
            if not self.busy:
                action()
            else:
                self._changes.append(action)
                self._changed.notify_all()

    def stop(self, limit_s: float | None = None) -> None:
        """Finish the frames in hand and stop. Safe when it does not run.

        Raises WorkerStuck where they are not finished within ``limit_s`` (default STOP_S): the
        thread ends with it, and may be stopped again.
        """
        if self._loop is not None:
            self._loop.stop()
        if self._job is not None:
            self._wait(self._job, STOP_S if limit_s is None else limit_s)
        self._job = self._loop = None  # a job's result may be a pipeline
        self.at("nothing")
        self._make_changes()

    def close(self, pipeline: Pipeline | None, limit_s: float | None = None) -> None:
        """Stop, and free the pipeline on its own thread. Raises WorkerStuck as :meth:`stop`
        does.
        """
        self.stop(limit_s)
        if pipeline is not None:
            job = self._begin("closing the engine", pipeline.close)
            self._wait(job, STOP_S if limit_s is None else limit_s)
            self._job = None
            job.result()

    def shutdown(self) -> None:
        """End the thread. Not while it is stuck: it would be waited for."""
        self._thread.shutdown()

    def _make_changes(self) -> None:
        while self._changes:
            self._changes.popleft()()

    def _run(self, loop: FrameLoop) -> None:
        try:
            loop.run()
        except Exception as error:
            # Nobody waits for this thread's result until the node stops it.
            self._calls.failed(error)
