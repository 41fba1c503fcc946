"""Build the vision_msgs overlay (tools/vision_msgs) into this Python environment.

vision_msgs is not among the ROS wheels. The wheels do bring rosidl and ament_cmake, so its messages
can be generated here, in about 10 s; they interoperate with any ROS 2, because names and types are
the wire format. Run with the environment's own Python: ``.venv/bin/python
tools/build_vision_msgs.py``.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy

SOURCE = Path(__file__).parent / "vision_msgs"


def point_exports_here(prefix: Path) -> None:
    """The wheels' CMake exports name the include folders of the machine that built them: name this
    one's.
    """
    python_include = sysconfig.get_paths()["include"]
    for file in prefix.glob("share/*/cmake/*.cmake"):
        text = file.read_text()
        fixed = re.sub(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+", python_include, text)
        fixed = re.sub(
            r"/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages/numpy/_core/include",
            numpy.get_include(),
            fixed,
        )
        if fixed != text:
            file.write_text(fixed)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a build step; its output is shown only when it fails."""
    done = subprocess.run(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(command)}\n{done.stdout[-6000:]}\nbuilding vision_msgs failed (exit "
            f"{done.returncode}); "
            "it needs a C and a C++ compiler (Debian, Ubuntu: apt install build-essential) and "
            "Python's headers"
        )


def main() -> None:
    prefix = Path(sys.prefix)
    point_exports_here(prefix)
    environment = dict(
        os.environ,
        CMAKE_PREFIX_PATH=str(prefix),
        AMENT_PREFIX_PATH=str(prefix),
        PATH=f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )
    with tempfile.TemporaryDirectory() as build:
        run(
            [
                "cmake",
                "-S",
                str(SOURCE),
                "-B",
                build,
                "-GNinja",
                f"-DCMAKE_INSTALL_PREFIX={prefix}",
                f"-DPython3_EXECUTABLE={sys.executable}",
                "-DBUILD_TESTING=OFF",
                "-Wno-dev",
            ],
            environment,
        )
        run(["cmake", "--build", build], environment)
        run(["cmake", "--install", build], environment)


if __name__ == "__main__":
    main()
