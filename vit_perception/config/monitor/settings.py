"""Settings of the monitor: what is compared with a reference, and from where on it is said."""

from dataclasses import dataclass
from typing import ClassVar

from vit_perception.config.checks import BadSetting
from vit_perception.config.parameter import TOPICS, Section, param


@dataclass(frozen=True)
class MonitorSettings(Section):
    """Novelty and camera shift of each camera (docs/monitor.md)."""

    PREFIX: ClassVar[str] = "monitor."

    reference: str = param(
        "",
        "Folder of `vit-perception reference`: novelty and camera shift of each image are "
        "published (docs/monitor.md). '' is off.",
        fixed=TOPICS,
        is_path=True,
    )
    window_s: float = param(
        2.0,
        "Time over which the medians are taken that /diagnostics judges, in s.",
        unit="s",
        bounds=(0.1, 60.0),
    )
    novelty_warn: float = param(
        2.0,
        "Novelty score from which on /diagnostics warns. 1 is the limit that 99 % of the "
        "reference's held-out frames stay below.",
        bounds=(1.0, 1000.0),
    )
    novelty_error: float = param(
        5.0, "Novelty score from which on /diagnostics has an error.", bounds=(1.0, 1000.0)
    )
    shift_warn_px: float = param(
        2.0,
        "Camera shift from which on /diagnostics warns, in px of the image. It is "
        "never less than 1.5 times what held-out frames show without any shift.",
        unit="px",
        bounds=(0.1, 10000.0),
    )
    shift_error_px: float = param(
        8.0,
        "Camera shift from which on /diagnostics has an error, in px of the image.",
        unit="px",
        bounds=(0.1, 10000.0),
    )
    rotation_warn_deg: float = param(
        1.0,
        "Rotation of the camera about its axis from which on /diagnostics warns, in degrees.",
        unit="degrees",
        bounds=(0.1, 180.0),
    )
    rotation_error_deg: float = param(
        3.0,
        "Rotation of the camera about its axis from which on /diagnostics has an error, in "
        "degrees.",
        unit="degrees",
        bounds=(0.1, 180.0),
    )

    def __post_init__(self) -> None:
        self.check_parameters()
        for name in ("novelty_error", "shift_error_px", "rotation_error_deg"):
            warn = name.replace("error", "warn")
            if getattr(self, name) < getattr(self, warn):
                raise BadSetting(
                    f"{self.prefix}{name}",
                    getattr(self, name),
                    f"{getattr(self, warn)} or more, the value of {self.prefix}{warn}",
                )
