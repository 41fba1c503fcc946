"""The thread that opens, verifies and runs the engine, so that receiving never waits for
inference.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from vit_perception.engines.cuda.fault import GpuLost, lost
from vit_perception.files.errors import OperationFailed, traced
from vit_perception.pipeline.latencies import StageLatencies
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.wire.records import BadInput, FrameResult

LONGEST_IDLE_S = 0.05  # how late the silence of a camera may be noticed
STOP_S = 10.0  # how long a transition waits for the frame in hand: on a slow CPU one takes seconds
ENDING_S = 1.5  # the same where the process is to end


@dataclass(frozen=True, eq=False)
class Received:
    """An image message as it waits for the worker: when it came (monotonic, ns), and how long after
    its stamp.

    ``receive_ms`` is None where the stamp is of another clock than the node's (a bag without
    ``/clock``).
    """

    message: Any
    arrived_ns: int
    receive_ms: float | None = None


class EngineFailed(OperationFailed):
    """The engine raised while it ran. What is wrong with it (a lost device) does not pass by
    itself.
    """


class WorkerStuck(OperationFailed):
    """The thread does not come back from what it does: an engine that hangs, a picture that takes
    minutes.
    """


class EncoderWorker:
    """One thread. ``changed`` is the lock around ``sync``, notified when an image or a pose has
    come.

    ``publish`` sends a frame; ``warn`` takes a camera's name and the text of what was wrong with
    its image; ``failed`` is told what ended the work before ``stop`` was called; ``wanted`` gives
    False once the process is told to end.
    """

    def __init__(
        self,
        changed: threading.Condition,
        publish: Callable[[FrameResult], None],
        warn: Callable[[str, str], None],
        failed: Callable[[Exception], None],
        wanted: Callable[[], bool] = lambda: True,
    ):
        self._changed = changed
        self._publish = publish
        self._warn = warn
        self._failed = failed
        self._wanted = wanted
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._job: Future | None = (
            None  # what the thread was last given: to open, to run, or to close
        )
        self._opens = False
        self._pipeline: Pipeline | None = None
        self._stop = False
        self._stage, self._since_s = "nothing", time.monotonic()
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
        pipeline = self._pipeline if self._stage == "prepare" else None
        camera = pipeline.camera_in_hand if pipeline else ""
        return (
            f"{self._stage}{camera and f' of camera {camera}'}, for "
            f"{time.monotonic() - self._since_s:.1f} s"
        )

    def at(self, stage: str) -> None:
        """From now on it is at ``stage``."""
        self._stage, self._since_s = stage, time.monotonic()

    def check_idle(self) -> None:
        """Raise WorkerStuck while the thread is at anything: two jobs never share an engine."""
        if self.busy:
            raise WorkerStuck(
                f"the worker has not come back from: {self.doing}; accepted: once it has, or in a "
                "new "
                "process"
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

    def start(self, pipeline: Pipeline, sync: CameraSync, samples: SampleInputs) -> None:
        """Begin to encode what ``sync`` offers. Raises WorkerStuck as :meth:`open` does."""
        self.check_idle()
        self._stop = False
        self.latencies = StageLatencies()
        self.camera_latencies = {camera: StageLatencies() for camera in sync.cameras}
        samples.keep_for(sync.oldest_ns)
        self._pipeline = pipeline
        self._begin("waiting for images", self._run, pipeline, sync, samples)

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
        """Finish the frame in hand and stop. Safe when it does not run.

        Raises WorkerStuck where the frame is not finished within ``limit_s`` (default STOP_S): the
        thread ends with it, and may be stopped again.
        """
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._job is not None:
            self._wait(self._job, STOP_S if limit_s is None else limit_s)
        self._job = self._pipeline = None  # a job's result may be a pipeline
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

    def _run(self, pipeline: Pipeline, sync: CameraSync, samples: SampleInputs) -> None:
        try:
            self._loop(pipeline, sync, samples)
        except Exception as error:
            # Nobody waits for this thread's result until the node stops it.
            self._failed(error)

    def _loop(self, pipeline: Pipeline, sync: CameraSync, samples: SampleInputs) -> None:
        last_run_s = float("-inf")
        while True:
            with self._changed:
                taken = None
                while not self._stop:
                    self._make_changes()
                    # Asked anew each time: another rate is in force at once, not after the former
                    # period.
                    most_hz = pipeline.settings.output.max_rate_hz
                    wait_s = last_run_s + 1.0 / most_hz - time.monotonic() if most_hz else 0.0
                    # Taken as late as possible, so that the newest image is the one encoded.
                    taken = sync.take(time.monotonic_ns()) if wait_s <= 0 else None
                    if taken is not None:
                        break
                    self._changed.wait(timeout=wait_s if wait_s > 0 else self._idle_s(sync))
                if taken is None:
                    return
            last_run_s = time.monotonic()
            self._encode(pipeline, sync, samples, taken)

    @staticmethod
    def _idle_s(sync: CameraSync) -> float | None:
        """After how long without a message a group may be there: with a silent or a slow camera
        time completes it.
        """
        if len(sync.cameras) == 1:
            return None
        if sync.deferred_until_ns is None:
            return LONGEST_IDLE_S
        return min(LONGEST_IDLE_S, max(0.0, (sync.deferred_until_ns - time.monotonic_ns()) / 1e9))

    def _encode(
        self,
        pipeline: Pipeline,
        sync: CameraSync,
        samples: SampleInputs,
        taken: dict[str, Received],
    ) -> None:
        """One group through the pipeline. Whatever happens, each of its images is accounted for.

        Raises EngineFailed where the engine does, GpuLost where the process can use the GPU no
        more.
        """
        outcome = dict.fromkeys(taken, "error")
        begin_ns = time.monotonic_ns()
        try:
            self.at("prepare")
            prepared = pipeline.prepare(
                {camera: received.message for camera, received in taken.items()}
            )
            for camera, error in prepared.refused.items():
                outcome[camera] = error.reason
                self._warn(camera, str(error))
            whole = not prepared.refused or pipeline.settings.sync.policy == "mask"
            if not prepared.images or not whole:
                outcome |= dict.fromkeys(prepared.images, "incomplete_group")
                return
            try:
                self.at("encode")
                output = pipeline.encode(prepared)
            except Exception as error:
                outcome |= dict.fromkeys(prepared.images, "engine_error")
                failed = f"{pipeline.engine.runtime}: {type(error).__name__}: {error}"
                raise lost(error) or EngineFailed(failed) from error
            self.at("assemble and publish")
            started = time.monotonic()
            found = samples.at(prepared.first.stamp_ns)
            prepared.stage_ms["pose_wait"] = 1e3 * (time.monotonic() - started)
            result = pipeline.assemble(prepared, output, found)
            started = time.monotonic()
            self._publish(result)
            result.stage_ms["publish"] = 1e3 * (time.monotonic() - started)
            self._note(result, prepared.camera_ms, taken, begin_ns)
            outcome |= dict.fromkeys(result.cameras, "")
        except BadInput as error:
            outcome |= dict.fromkeys(prepared.images, error.reason)
            self._warn(", ".join(prepared.images), str(error))
        except (EngineFailed, GpuLost):
            raise
        except Exception as error:
            if (gone := lost(error)) is not None:
                raise gone from error
            # The node outlives a frame that fails; the books and the log say that it did.
            self._warn(", ".join(taken), traced(error))
        finally:
            self.at("waiting for images")
            with self._changed:
                for camera, reason in outcome.items():
                    sync.finish(camera, reason)

    def _note(
        self,
        result: FrameResult,
        camera_ms: dict[str, dict[str, float]],
        taken: dict[str, Received],
        begin_ns: int,
    ) -> None:
        """Latencies of one published frame: by stage, and by camera from its stamp to what was
        published.
        """
        self.latencies.add(result.stage_ms)
        now_ns = time.monotonic_ns()
        for camera in result.cameras:
            received = taken[camera]
            stages = camera_ms[camera] | {"queue": (begin_ns - received.arrived_ns) / 1e6}
            if received.receive_ms is not None:
                stages |= {
                    "receive": received.receive_ms,
                    "age": received.receive_ms + (now_ns - received.arrived_ns) / 1e6,
                }
            self.camera_latencies[camera].add(stages)
