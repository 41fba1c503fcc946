"""Turn off usage reports of libraries before they are imported."""

import os
import sys

# onnxruntime: its Linux wheels send events and keep a device id in ~/.cache. NNCF: is silent when
# it believes to run in its own CI. The hub's client and transformers send names of what is used, in
# headers and requests. Ray reports what a cluster runs on. Others follow DO_NOT_TRACK
# (https://donottrack.sh).
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Importing openvino or NNCF sends an event through this package to an analytics service and keeps
# an id in ~/intel. It has no switch; both work without it.
BLOCKED = "openvino_telemetry"


def off() -> None:
    """Turn off usage reports in this process and its children; call it before those imports."""
    os.environ.update(SWITCHES)
    sys.modules.setdefault(BLOCKED, None)
