"""Make an editable install visible to ROS: pip installs no share/ files and no lib/<package>/
executables then.

Links package.xml, launch/, config/, rviz/, foxglove/ and the ament index marker into the
environment, as ``colcon build --symlink-install`` does, and the scripts where ``ros2 run`` looks
for them.
"""

import sys
from pathlib import Path

PACKAGE = "vit_perception"
SOURCE = Path(__file__).resolve().parent.parent


def link(at: Path, target: Path) -> None:
    """Make ``at`` a link to ``target``, replacing what an earlier set-up left there."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    at.symlink_to(target)


def main() -> None:
    prefix = Path(sys.prefix)
    link(
        prefix / "share/ament_index/resource_index/packages" / PACKAGE,
        SOURCE / "resource" / PACKAGE,
    )
    for name in ("package.xml", "launch", "config", "rviz", "foxglove"):
        link(prefix / "share" / PACKAGE / name, SOURCE / name)
    for script in ("encoder_node", "vit-perception"):
        link(prefix / "lib" / PACKAGE / script, prefix / "bin" / script)


if __name__ == "__main__":
    main()
