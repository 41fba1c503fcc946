"""Child processes of demo, benchmark and tests: started with a log, always ended."""

import atexit
import os
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vit_perception.files.atomic import fresh_file
from vit_perception.files.errors import OperationFailed
from vit_perception.files.process_group import OWN_GROUP

PACKAGE = Path(__file__).resolve().parent.parent
# Fast DDS 3 (Kilted and later) reads the first, Fast DDS 2 (Humble, Jazzy) the second alone; Kilted
# warns of the second.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def share_folder() -> Path:
    """Return the folder of config/, launch/ and data/: the checkout, or the installed share folder.

    Raises:
        OperationFailed: The package was installed without them.
    """
    if (PACKAGE.parent / "config").is_dir():
        return PACKAGE.parent
    # A wheel in an environment, a colcon workspace and /opt/ros have share/ at another height above
    # the package each, and only the last two have an ament index.
    for prefix in PACKAGE.parents:
        if (folder := prefix / "share/vit_perception").is_dir():
            return folder
    raise OperationFailed(
        f"there is no share/vit_perception above {PACKAGE}: config/, launch/ and the demo's "
        "recordings were not installed; install a wheel, or build with colcon"
    )


def use_large_data_profile() -> None:
    """Let images above 0.5 MB through shared memory, here and in every child.

    The user's own profile is kept. Call it before ``rclpy.init``.
    """
    if not any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        os.environ[profile_variable()] = str(share_folder() / "config/fastdds_large_data.xml")


def profile_variable() -> str:
    """Return the environment variable that the installed Fast DDS reads."""
    if release := os.environ.get("ROS_DISTRO"):
        return PROFILE_VARIABLES[release in ("humble", "jazzy")]
    # Wheels set no ROS_DISTRO. Fast DDS 2 has another name there.
    try:
        version("ros-fastrtps")
    except PackageNotFoundError:
        return PROFILE_VARIABLES[0]
    return PROFILE_VARIABLES[1]


class Child:
    """A process in a process group of its own, whose output goes to ``log``."""

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str] | None = None):
        self.log = log
        self._file = fresh_file(log)
        self._process = subprocess.Popen(
            arguments,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            **OWN_GROUP,
        )
        # However the parent ends, the child ends with it.
        atexit.register(self.kill)

    @classmethod
    def module(
        cls, name: str, *arguments: str, log: Path, environment: dict[str, str] | None = None
    ) -> "Child":
        """Run ``python -m name arguments`` with this Python."""
        return cls([sys.executable, "-m", name, *arguments], log, environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, timeout_s: float = 60.0, sent: int = signal.SIGINT) -> int:
        """Ask it to end, kill it after ``timeout_s``, and return its exit status."""
        if self.returncode is None:
            self._process.send_signal(sent)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._file.close()
        atexit.unregister(self.kill)
        return self._process.wait()

    def kill(self) -> None:
        """Kill it and all processes that it started."""
        if self.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
