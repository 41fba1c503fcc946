"""Nothing is reported to anybody: the libraries that would do so are told before they are
imported.
"""

import os
import sys

# onnxruntime: the Linux wheels have a sender of events built in, which keeps a device's id in
# ~/.cache. NNCF: stays silent where it believes to run in its makers' own tests. The hub's client
# and transformers: names of what is used, in headers and requests of their own. Others follow
# DO_NOT_TRACK (https://donottrack.sh).
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
# Each import of openvino or NNCF sends an event through this package to an analytics service, and
# keeps an id in ~/intel. It has no switch; both do without where it cannot be imported.
BLOCKED = "openvino_telemetry"


def off() -> None:
    """Turn off reports of use in this process and its children; call it before such a library is
    imported.
    """
    os.environ.update(SWITCHES)
    sys.modules.setdefault(BLOCKED, None)
