"""Nothing is reported to anybody: the libraries that would do so are told before they are imported."""

import os

# onnxruntime: the makers of its Linux wheels have built in a sender of events, which keeps a device's id in ~/.cache.
# NNCF: sends its imports and calls to an analytics service and keeps an id in ~/intel, unless it runs in its own tests.
# The hub's client and transformers: names of what is used, in headers and requests of their own. Others follow
# DO_NOT_TRACK (https://donottrack.sh).
SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def off() -> None:
    """Turn off reports of use in this process and its children; call it before such a library is imported."""
    os.environ.update(SWITCHES)
