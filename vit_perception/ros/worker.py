"""The thread that opens, verifies and runs the engine, so that receiving never waits for inference."""

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from vit_perception.pipeline import Pipeline
from vit_perception.ros.camera_sync import CameraSync
from vit_perception.ros.diagnostics import StageLatencies
from vit_perception.ros.pose_inputs import PoseInputs
from vit_perception.types import BadInput, FrameResult


class EncoderWorker:
    """One thread. ``changed`` is the lock around ``sync``, notified when an image or a pose has come.

    ``publish`` sends a frame; ``warn`` takes a camera's name and the text of what was wrong with its image.
    """

    def __init__(self, changed: threading.Condition, publish: Callable[[FrameResult], None],
                 warn: Callable[[str, str], None]):
        self._changed = changed
        self._publish = publish
        self._warn = warn
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._running: Future | None = None
        self._stop = False
        self.latencies = StageLatencies()

    def open(self, make: Callable[[], Pipeline]) -> Pipeline:
        """Run ``make`` on the thread that will use what it opens, and wait for it. Raises what it raises."""
        return self._thread.submit(make).result()

    def start(self, pipeline: Pipeline, sync: CameraSync, poses: PoseInputs) -> None:
        """Begin to encode what ``sync`` offers."""
        self._stop = False
        self.latencies = StageLatencies()
        self._running = self._thread.submit(self._loop, pipeline, sync, poses)

    def stop(self) -> None:
        """Finish the frame in hand and stop. Safe when it does not run."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._running is not None:
            self._running.result()
            self._running = None

    def close(self, pipeline: Pipeline | None) -> None:
        """Stop, and free the pipeline on its own thread."""
        self.stop()
        if pipeline is not None:
            self._thread.submit(pipeline.close).result()

    def shutdown(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _loop(self, pipeline: Pipeline, sync: CameraSync, poses: PoseInputs) -> None:
        most_hz = pipeline.settings.output.max_rate_hz
        next_run_s = 0.0
        while True:
            with self._changed:
                messages = None
                while not self._stop:
                    wait_s = next_run_s - time.monotonic()
                    # Taken as late as possible, so that the newest image is the one encoded.
                    messages = sync.take(time.monotonic_ns()) if wait_s <= 0 else None
                    if messages is not None:
                        break
                    # With a silent camera it is time, not a message, that completes a group.
                    self._changed.wait(timeout=wait_s if wait_s > 0 else 0.05 if len(sync.cameras) > 1 else None)
                if messages is None:
                    return
            next_run_s = time.monotonic() + (1.0 / most_hz if most_hz else 0.0)
            self._encode(pipeline, sync, poses, messages)

    def _encode(self, pipeline: Pipeline, sync: CameraSync, poses: PoseInputs, messages: dict) -> None:
        """One group through the pipeline. Whatever happens, each of its images is accounted for."""
        outcome = dict.fromkeys(messages, "error")
        try:
            prepared = pipeline.prepare(messages)
            for camera, error in prepared.refused.items():
                outcome[camera] = error.reason
                self._warn(camera, str(error))
            whole = not prepared.refused or pipeline.settings.sync.policy == "mask"
            if not prepared.images or not whole:
                outcome |= dict.fromkeys(prepared.images, "incomplete_group")
                return
            output = pipeline.encode(prepared)
            started = time.monotonic()
            found = poses.poses_at(prepared.first.stamp_ns)
            prepared.stage_ms["pose_wait"] = 1e3 * (time.monotonic() - started)
            result = pipeline.assemble(prepared, output, found)
            started = time.monotonic()
            self._publish(result)
            result.stage_ms["publish"] = 1e3 * (time.monotonic() - started)
            self.latencies.add(result.stage_ms)
            outcome |= dict.fromkeys(result.cameras, "")
        except BadInput as error:
            outcome |= dict.fromkeys(prepared.images, error.reason)
            self._warn(", ".join(prepared.images), str(error))
        except Exception:
            # The node outlives a frame that fails; the books and the log say that it did.
            self._warn(", ".join(messages), traceback.format_exc())
        finally:
            with self._changed:
                for camera, reason in outcome.items():
                    sync.finish(camera, reason)
