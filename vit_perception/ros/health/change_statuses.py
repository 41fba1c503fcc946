"""``/diagnostics`` of the monitor: how far each camera's pictures are from those of training."""

import math
from dataclasses import fields

from vit_perception.pipeline.monitor.window import Finding
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros import diagnostics
from vit_perception.ros.reporter import Reporter

_LEVELS = {"ok": diagnostics.OK, "warn": diagnostics.WARN, "error": diagnostics.ERROR}
_NUMBERS = tuple(f.name for f in fields(Finding) if f.type in (float, "float"))


class ChangeStatuses:
    """Makes the statuses, and says in the log when one changes."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._levels: dict[str, str] = {}

    def look(self, pipeline: Pipeline, receives: bool) -> list[diagnostics.DiagnosticStatus]:
        """Return a status of each camera of the reference; without ``receives`` log nothing."""
        monitor = pipeline.parts.monitor
        if monitor is None:
            return []
        topics = {camera.name: camera.topic for camera in pipeline.settings.cameras}
        statuses = []
        for name, finding in monitor.findings().items():
            before = self._levels.get(name, "ok")
            if receives and finding.level not in ("ok", before):
                self._reporter.warn(topics[name], finding.says, about=f"monitor {finding.level}")
            self._levels[name] = finding.level
            statuses.append(status_of(self._reporter.label, name, finding))
        return statuses


def status_of(node_name: str, camera: str, finding: Finding) -> diagnostics.DiagnosticStatus:
    """Return one status: medians of the window, where there are any."""
    numbers = {name: getattr(finding, name) for name in _NUMBERS}
    values = {name: f"{value:.4g}" for name, value in numbers.items() if not math.isnan(value)}
    level = _LEVELS[finding.level]
    return diagnostics.status(f"{node_name}: monitor {camera}", level, finding.says, values)
