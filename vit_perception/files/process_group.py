"""How a child process is started so that Ctrl-C in a terminal reaches only its parent, and so that
``os.killpg`` ends all that it started.
"""

import sys
from typing import Any

# A process group, not a session: Linux gives every session an equal share of a busy core
# (autogroup), or on some kernels none at all, however many processes are in the other sessions.
# Python 3.10, which Humble has, cannot start a group without a session.
OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)
