"""Figures of processes, as Linux tells them."""

import os
from pathlib import Path


def resident_mb(pid: int) -> float:
    """Resident memory; 0 where the process is gone."""
    try:
        return (
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 1e6
        )
    except (OSError, IndexError):
        return 0.0


def cpu_percent(pid: int) -> float:
    """Of one core, since the process began; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    ticks_hz = os.sysconf("SC_CLK_TCK")
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    lived_s = uptime_s - int(fields[19]) / ticks_hz
    return 100 * (int(fields[11]) + int(fields[12])) / ticks_hz / max(lived_s, 1e-3)
