"""The robot: MuJoCo and robosuite, in .venv-sim. ``scene`` is the world, ``tasks`` and ``expert``
what is done in it, ``conditions`` what is changed, ``record`` and ``node`` are the two programs.
"""

import logging
import os

# Read when mujoco is imported: draw without a display. Mesa draws where there is no GPU.
os.environ.setdefault("MUJOCO_GL", "egl")
# Two processes that both wait busily for their threads slow each other to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# robosuite warns at its import of files and packages that nothing here needs.
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno > logging.WARNING)
