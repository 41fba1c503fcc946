"""The monitor of a pipeline: each camera's image against what the reference says is normal."""

import threading
import time
from collections.abc import Mapping

import numpy as np

from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.pipeline.monitor.novelty import Novelty, rank
from vit_perception.pipeline.monitor.reference import CameraReference, Reference
from vit_perception.pipeline.monitor.shift import ShiftFit, unit
from vit_perception.pipeline.monitor.window import ChangeWindow, Finding
from vit_perception.wire.monitored import CameraChange
from vit_perception.wire.records import CameraResult


class CameraMonitor:
    """Compares images of one camera with its reference. It keeps nothing from image to image."""

    def __init__(self, reference: CameraReference):
        self.reference = reference
        self.novelty = Novelty(reference)
        self.fit = ShiftFit(reference) if reference.has_background else None

    def __call__(self, patch_tokens: np.ndarray) -> CameraChange:
        """Return what is found in ``patch_tokens`` (P, D)."""
        reference = self.reference
        tokens, moved = self.seen(patch_tokens)
        score = self.novelty.score(self.novelty.parts(tokens, moved))
        shift = None
        why = ""
        if self.fit is None:
            share = reference.static.mean()
            why = f"only {100 * share:.0f} % of its patches are static background"
        else:
            shift, agreement = self.fit(moved)
            if shift is None:
                why = f"the static background is not found again (similarity {agreement:.2f})"
        return CameraChange(rank(score, reference.held_out), score, shift, why)

    def seen(self, patch_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``patch_tokens`` (P, D) with length 1, and in the background's directions."""
        tokens = unit(patch_tokens)
        return tokens, (tokens - self.reference.centre) @ self.reference.directions


class Monitor:
    """Compares the images of every camera of a reference, and keeps what the last seconds showed.

    Threads may ask for :meth:`findings` while another one hands over frames.
    """

    def __init__(self, reference: Reference, settings: MonitorSettings):
        self.reference = reference
        self.cameras = {name: CameraMonitor(camera) for name, camera in reference.cameras.items()}
        self.settings = settings
        self._lock = threading.Lock()
        self._windows = {name: ChangeWindow(camera) for name, camera in reference.cameras.items()}
        self._other_sizes: dict[str, tuple[int, int]] = {}

    def clear(self) -> None:
        """Forget the last seconds."""
        with self._lock:
            self._other_sizes.clear()
            for window in self._windows.values():
                window.clear()

    def __call__(
        self, cameras: Mapping[str, CameraResult], stage_ms: dict[str, float]
    ) -> dict[str, CameraChange]:
        """Return the change of each camera whose image is as large as the reference's.

        It is made of that image alone. The time that it takes becomes the stage ``monitor``.
        """
        started_s = time.perf_counter()
        changes = {}
        for name, camera in cameras.items():
            size = camera.image.size
            fits = size == self.cameras[name].reference.view.source_size_px
            if fits:
                changes[name] = self.cameras[name](camera.patch_tokens)
            with self._lock:
                if not fits:
                    self._other_sizes[name] = size
                    continue
                self._other_sizes.pop(name, None)
                window = self._windows[name]
                window.add(camera.image.stamp_ns, changes[name], self.settings.window_s)
        stage_ms["monitor"] = 1e3 * (time.perf_counter() - started_s)
        return changes

    def findings(self) -> dict[str, Finding]:
        """Return what the last seconds say of each camera."""
        with self._lock:
            return {name: self._finding(name) for name in self.cameras}

    def _finding(self, name: str) -> Finding:
        if name in self._other_sizes:
            height, width = self._other_sizes[name]
            learnt_height, learnt_width = self.cameras[name].reference.view.source_size_px
            return Finding(
                "warn",
                f"its images have {width} x {height} px; accepted: {learnt_width} x "
                f"{learnt_height}, as in the reference",
            )
        return self._windows[name].finding(self.settings)
