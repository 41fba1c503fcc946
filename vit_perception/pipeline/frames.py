"""Frames on their way through the node: three steps, each on a thread of its own. They overlap if
the engine leaves a core to them::

    prepare   take the newest images, decode, resize           frame k + 1
    run       the engine, on the thread that opened it         frame k
    emit      wait for samples, assemble, publish              frame k - 1

Each step holds one frame. There are two sets of buffers: frame k + 1 is prepared in the set whose
output frame k - 1 is published from. A frame is taken only when the one before it has begun to run,
and begins to run only when the one two before it is out, so no set is written while it is read.

An engine on all cores would only be slowed down, and the next image would be older for nothing (p50
of the demo on two cores: 425 ms instead of 360). Then a frame is taken when the one before is out.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from vit_perception.engines.cuda.fault import GpuLost, lost
from vit_perception.files.errors import traced
from vit_perception.pipeline.frame_state import (
    EngineFailed,
    ExtrasAt,
    Frame,
    FrameCalls,
    Received,
    Step,
    copied,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.prepare import BATCHES
from vit_perception.pipeline.timing import trace
from vit_perception.pipeline.timing.latencies import StageLatencies
from vit_perception.pipeline.timing.pace import Pace
from vit_perception.streams.camera_sync import DEACTIVATED, GPU_LOST, CameraSync
from vit_perception.streams.image_extras import ImageExtras
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.wire.records import BadInput, EncoderOutput, FrameResult


class FrameLoop:
    """Carries the groups that ``sync`` offers through ``pipeline``, until it is stopped or fails.

    ``changed`` is the lock around ``sync``, notified when an image or a sample has come.
    ``changes`` are run while no frame is on its way, so that none is made half before and half
    after one.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        sync: CameraSync,
        samples: SampleInputs,
        changed: threading.Condition,
        changes: deque[Callable[[], None]],
        overlap: bool,
        calls: FrameCalls,
        latencies: StageLatencies,
        camera_latencies: dict[str, StageLatencies],
        extras_at: ExtrasAt = lambda stamps_ns: ImageExtras({}, {}),
    ):
        self._pipeline = pipeline
        self._sync = sync
        self._samples = samples
        self._changed = changed
        self._changes = changes
        self._overlap = overlap
        self._calls = calls
        self._latencies = latencies
        self._camera_latencies = camera_latencies
        self._extras_at = extras_at
        self._prepare_step = Step()
        self._run_step = Step()
        self._emit_step = Step()
        self._to_run: SimpleQueue[Frame | None] = SimpleQueue()
        self._to_emit: SimpleQueue[Frame | None] = SimpleQueue()
        self._emit_free = threading.Semaphore(1)
        self._outputs: list[EncoderOutput | None] = [None] * BATCHES
        # What follows is read and written with the lock held.
        self._pace = Pace()
        self._stop = False
        self._failed = False
        self._dropped_because = DEACTIVATED  # of frames that have not begun to run at the end
        self._on_their_way = 0
        self._next_taken = False  # a frame is taken that has not begun to run
        self._run_begun_s: float | None = None

    @property
    def doing(self) -> tuple[str, float]:
        """What it has been at for the longest time, and since when (monotonic, s)."""
        steps = [step.now for step in (self._prepare_step, self._run_step, self._emit_step)]
        busy = [now for now in steps if now[0]]
        if not busy:
            return "waiting for images", max(since_s for _, since_s in steps)
        name, since_s = min(busy, key=lambda now: now[1])
        if name == "prepare":
            name = f"prepare of camera {self._pipeline.camera_in_hand}"
        return name, since_s

    def run(self) -> None:
        """Work until :meth:`stop`; the calling thread is the engine's. It returns when every image
        that was taken is accounted for.
        """
        others = [
            threading.Thread(target=self._prepare_frames, name="prepare", daemon=True),
            threading.Thread(target=self._emit_frames, name="emit", daemon=True),
        ]
        for thread in others:
            thread.start()
        try:
            self._run_frames()
        finally:
            self.stop()
            self._to_emit.put(None)
            for thread in others:
                thread.join()

    def stop(self) -> None:
        """Finish the frames that run or are published, and drop the one that waits to run."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()

    # -- prepare -----------------------------------------------------------------------------------

    def _prepare_frames(self) -> None:
        try:
            buffers = 0
            while (taken := self._take()) is not None:
                frame = Frame(taken, buffers, dict.fromkeys(taken, "error"))
                if self._carry(frame, self._prepare_step, self._prepare):
                    buffers = (buffers + 1) % BATCHES
                    self._to_run.put(frame)
                else:
                    with self._changed:
                        self._next_taken = False
        except Exception as error:
            self._fail(error)
        finally:
            self._to_run.put(None)

    def _take(self) -> dict[str, Received] | None:
        """The next group, once it is there and its time has come; None at the end."""
        with self._changed:
            while not self._stop:
                if self._changes and not self._on_their_way:
                    while self._changes:
                        self._changes.popleft()()
                timeout_s = None
                occupied = self._next_taken if self._overlap else self._on_their_way
                if not self._changes and not occupied:
                    # Asked each time: another rate is in force at once.
                    most_hz = self._pipeline.settings.output.max_rate_hz
                    timeout_s = self._pace.wait_s(time.monotonic(), most_hz, self._run_begun_s)
                    if timeout_s <= 0:
                        taken = self._sync.take(time.monotonic_ns())
                        if taken is not None:
                            self._on_their_way += 1
                            self._next_taken = True
                            self._pace.taken(time.monotonic())
                            return taken
                        timeout_s = self._sync.idle_s(time.monotonic_ns())
                self._changed.wait(timeout_s)
        return None

    def _prepare(self, frame: Frame) -> bool:
        self._prepare_step.at("prepare")
        begun_s = time.monotonic()
        messages = {camera: received.message for camera, received in frame.taken.items()}
        stamps_ns = {camera: received.stamp_ns for camera, received in frame.taken.items()}
        extras = self._extras_at(stamps_ns)
        prepared = frame.prepared = self._pipeline.prepare(messages, frame.buffers, *extras)
        for camera, error in prepared.refused.items():
            frame.drop([camera], error.reason)
            self._calls.warn([camera], str(error))
        whole = not prepared.refused or self._pipeline.settings.sync.policy == "mask"
        if not prepared.images or not whole:
            frame.drop(prepared.images, "incomplete_group")
            return False
        with self._changed:
            self._pace.prepared(time.monotonic() - begun_s)
        return True

    # -- run ---------------------------------------------------------------------------------------

    def _run_frames(self) -> None:
        while (frame := self._to_run.get()) is not None:
            with self._changed:
                self._next_taken = False
                stop = self._stop
                begun_s = self._run_begun_s = time.monotonic()
                self._changed.notify_all()
            if stop:
                frame.drop(frame.prepared.images, self._dropped_because)
                self._finish(frame)
            elif self._carry(frame, self._run_step, self._run):
                self._emit_free.acquire()
                self._to_emit.put(frame)
            with self._changed:
                self._pace.ran(time.monotonic() - begun_s)
                self._run_begun_s = None
                self._changed.notify_all()

    def _run(self, frame: Frame) -> bool:
        self._run_step.at("encode")
        try:
            output = self._pipeline.encode(frame.prepared)
        except Exception as error:
            frame.drop(frame.prepared.images, "engine_error")
            failed = f"{self._pipeline.engine_in_hand.runtime}: {type(error).__name__}: {error}"
            raise lost(error) or EngineFailed(failed) from error
        prepared = frame.prepared
        trace.point("infer", prepared.first.stamp_ns, prepared.stage_ms["infer"])
        # The engine's own arrays hold until its next run only.
        frame.output = copied(output, self._outputs[frame.buffers])
        self._outputs[frame.buffers] = frame.output
        return True

    # -- emit --------------------------------------------------------------------------------------

    def _emit_frames(self) -> None:
        while (frame := self._to_emit.get()) is not None:
            self._carry(frame, self._emit_step, self._emit)
            self._emit_free.release()

    def _emit(self, frame: Frame) -> bool:
        self._emit_step.at("assemble and publish")
        prepared = frame.prepared
        started_s = time.monotonic()
        found = self._samples.at(prepared.first.stamp_ns)
        prepared.stage_ms["pose_wait"] = 1e3 * (time.monotonic() - started_s)
        result = self._pipeline.assemble(prepared, frame.output, found)
        self._samples.note_masked((*result.sequence.groups, *result.apart))
        started_s = time.monotonic()
        self._calls.publish(result)
        if complaint := self._pipeline.history.complaint:
            self._calls.warn(result.cameras, complaint)
        result.stage_ms["publish"] = 1e3 * (time.monotonic() - started_s)
        trace.point("publish", result.stamp_ns, result.stage_ms["publish"])
        self._note(result, frame)
        frame.outcome |= dict.fromkeys(result.cameras, "")
        return False

    def _note(self, result: FrameResult, frame: Frame) -> None:
        """Latencies of one published frame: by stage, and by camera from its stamp to what was
        published.
        """
        self._latencies.add(result.stage_ms)
        now_ns = time.monotonic_ns()
        for camera in result.cameras:
            received = frame.taken[camera]
            before_ms = (frame.taken_ns - received.arrived_ns) / 1e6
            stages = frame.prepared.camera_ms[camera] | {"queue": before_ms + frame.waited_ms}
            if received.receive_ms is not None:
                stages |= {
                    "receive": received.receive_ms,
                    "age": received.receive_ms + (now_ns - received.arrived_ns) / 1e6,
                }
            self._camera_latencies[camera].add(stages)

    # -- every step --------------------------------------------------------------------------------

    def _carry(self, frame: Frame, step: Step, work: Callable[[Frame], bool]) -> bool:
        """Do one step of ``frame``; return whether it goes on to the next one. Where it does not,
        each of its images is accounted for, whatever has happened.
        """
        if frame.left_ns is not None:
            frame.waited_ms += (time.monotonic_ns() - frame.left_ns) / 1e6
        fatal: Exception | None = None
        goes_on = False
        try:
            goes_on = work(frame)
        except BadInput as error:
            frame.drop(frame.prepared.images, error.reason)
            self._calls.warn(frame.prepared.images, str(error))
        except EngineFailed as error:
            fatal = error
        except Exception as error:
            fatal = lost(error)
            if fatal is None:
                # The node outlives a frame that fails; the books and the log say that it did.
                self._calls.warn(frame.taken, traced(error))
            elif fatal is not error:
                fatal.__cause__ = error
        step.at("")
        frame.left_ns = time.monotonic_ns()
        if not goes_on:
            self._finish(frame)
        if fatal is not None:
            self._fail(fatal)
        return goes_on

    def _finish(self, frame: Frame) -> None:
        with self._changed:
            for camera, received in frame.taken.items():
                self._sync.finish(camera, frame.outcome[camera], received.stamp_ns)
            self._on_their_way -= 1
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """End the loop because of ``error``; the first time, say so."""
        with self._changed:
            first = not self._failed
            self._failed = True
            if isinstance(error, GpuLost):
                self._dropped_because = GPU_LOST
            self.stop()
        if first:
            self._calls.failed(error)
