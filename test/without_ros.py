"""A plugin of pytest that hides ROS, as if it were not installed: `make core-test`."""

import sys
from importlib.abc import MetaPathFinder

# Folders of tests whose subject is ROS, or a program that runs with it.
NEED_ROS = ("ros", "cli", "interop", "soak", "examples", "benchmarks")
NAMES = {"ament_index_python", "launch", "launch_ros", "rclpy", "rpyutils", "tf2_ros"}


def is_of_ros(module: str) -> bool:
    top = module.partition(".")[0]
    return top in NAMES or top.endswith(("_msgs", "_interfaces"))


class HiddenRos(MetaPathFinder):
    """Refuses every module of ROS with the error of one that is not installed."""

    def find_spec(self, name, path=None, target=None):
        if is_of_ros(name):
            raise ModuleNotFoundError(f"No module named {name!r} (ROS is hidden)", name=name)
        return None


def pytest_configure() -> None:
    sys.meta_path.insert(0, HiddenRos())


def pytest_ignore_collect(collection_path, config) -> bool | None:
    inside = collection_path.relative_to(config.rootpath).parts
    return True if inside[:1] == ("test",) and inside[1:2] and inside[1] in NEED_ROS else None
