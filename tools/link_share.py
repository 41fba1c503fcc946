"""Make an editable install visible to ROS: pip installs no share/ files and no lib/<package>/
executables then.

Links package.xml, config/, rviz/, foxglove/, each launch file and the ament index marker into the
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


def main(prefix: Path) -> None:
    """Link the package into ``prefix``. Programs are those of the running environment."""
    link(
        prefix / "share/ament_index/resource_index/packages" / PACKAGE,
        SOURCE / "resource" / PACKAGE,
    )
    share = prefix / "share" / PACKAGE
    for name in ("package.xml", "config", "rviz", "foxglove"):
        link(share / name, SOURCE / name)
    # `ros2 launch` does not look into a folder that is a link.
    launch = share / "launch"
    if launch.is_symlink():
        launch.unlink()
    for old in launch.glob("*.launch.py"):
        old.unlink()
    for file in sorted((SOURCE / "launch").glob("*.launch.py")):
        link(launch / file.name, file)
    for script in ("encoder_node", "vit-perception"):
        link(prefix / "lib" / PACKAGE / script, Path(sys.prefix) / "bin" / script)


if __name__ == "__main__":
    main(Path(sys.prefix))
