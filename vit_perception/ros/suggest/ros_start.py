"""Whether ROS starts here at all, asked without importing it."""

import os
import subprocess
import sys

from vit_perception.files.errors import MOST_SHOWN, OperationFailed, printable
from vit_perception.files.process_group import OWN_GROUP

START_S = 60.0  # the longest start of ROS


def check_middleware() -> None:
    """If a middleware is asked for, start ROS with it in another process.

    Call it before anything of rclpy is imported: with a middleware that is not installed, ROS ends
    the process that it is in.

    Raises:
        OperationFailed: ROS does not start with it.
    """
    if not os.environ.get("RMW_IMPLEMENTATION"):
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import rclpy; rclpy.init()"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=START_S,
            **OWN_GROUP,
        )
    except subprocess.TimeoutExpired as error:
        raise no_ros(f"it takes more than {START_S:g} s") from error
    if done.returncode:
        raise no_ros(done.stderr[-MOST_SHOWN:] or f"exit status {done.returncode}")


def no_ros(why: str) -> OperationFailed:
    """Return the error that says ``why`` ROS does not start."""
    said = printable(" ".join(why.split()), MOST_SHOWN)
    return OperationFailed(
        f"the ROS graph cannot be looked at, because ROS does not start: {said}; accepted: "
        "RMW_IMPLEMENTATION and ROS_DOMAIN_ID as ROS has them"
    )
