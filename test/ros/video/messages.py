"""The message packages of video for tests: those that are installed, or built once into pytest's
cache, as tools/build_vision_msgs.py builds vision_msgs. On one idle core that takes 15 s.
"""

import ctypes
import fcntl
import hashlib
import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from tools.build_vision_msgs import run
from vit_perception.recordings.definitions import typestore

PACKAGES = {
    "ffmpeg_image_transport_msgs": ("FFMPEGPacket", "std_msgs"),
    "foxglove_msgs": ("CompressedVideo", "builtin_interfaces"),
}
_PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>1.0.0</version>
  <description>One message of {name}, for tests.</description>
  <maintainer email="maintainers@example.org">vit_perception maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <build_depend>rosidl_default_generators</build_depend>
  <depend>{needs}</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
_CMAKE = """cmake_minimum_required(VERSION 3.14)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package({needs} REQUIRED)
rosidl_generate_interfaces(${{PROJECT_NAME}} "msg/{message}.msg" DEPENDENCIES {needs})
ament_package()
"""


@pytest.fixture(scope="session")
def video_messages(pytestconfig, tmp_path_factory):
    """The classes of FFMPEGPacket and CompressedVideo, as real message types."""
    try:
        return _classes()
    except ImportError:
        pass
    if not (shutil.which("cmake") and shutil.which("ninja") and shutil.which("cc")):
        pytest.skip(f"{', '.join(PACKAGES)} are not installed, nor is what builds them")
    texts = {name: _definition(name) for name in PACKAGES}
    place = hashlib.sha256(repr((sys.prefix, sys.version, texts)).encode()).hexdigest()[:16]
    cache = getattr(pytestconfig, "cache", None)  # none with -p no:cacheprovider
    make = cache.mkdir if cache else tmp_path_factory.mktemp
    folder = make(f"video_messages_{place}")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers wait for the one that builds
        prefix = folder / "prefix"
        if not (folder / "done").exists():
            _build(folder / "source", prefix, texts)
            (folder / "done").touch()
    _load(prefix)
    return _classes()


def _classes():
    return tuple(
        getattr(importlib.import_module(f"{name}.msg"), message)
        for name, (message, _) in PACKAGES.items()
    )


def _definition(name: str) -> str:
    kind = f"{name}/msg/{PACKAGES[name][0]}"
    return typestore().generate_msgdef(kind, ros_version=2)[0].split("=" * 80)[0]


def _build(source: Path, prefix: Path, texts: dict[str, str]) -> None:
    top = "cmake_minimum_required(VERSION 3.14)\nproject(video_messages C CXX)\n"
    for name, (message, needs) in PACKAGES.items():
        (source / name / "msg").mkdir(parents=True, exist_ok=True)
        (source / name / f"msg/{message}.msg").write_text(texts[name])
        filled = {"name": name, "message": message, "needs": needs}
        (source / name / "package.xml").write_text(_PACKAGE_XML.format(**filled))
        (source / name / "CMakeLists.txt").write_text(_CMAKE.format(**filled))
        top += f"add_subdirectory({name})\n"
    (source / "CMakeLists.txt").write_text(top)
    found = os.pathsep.join(filter(None, (sys.prefix, os.environ.get("AMENT_PREFIX_PATH"))))
    environment = dict(
        os.environ,
        CMAKE_PREFIX_PATH=found,
        AMENT_PREFIX_PATH=found,
        PATH=f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )
    build = source.parent / "build"
    given = {
        "CMAKE_INSTALL_PREFIX": prefix,
        "CMAKE_INSTALL_RPATH": f"{prefix / 'lib'};{Path(sys.prefix) / 'lib'}",
        "CMAKE_BUILD_TYPE": "Debug",
        "Python3_EXECUTABLE": sys.executable,
        "BUILD_TESTING": "OFF",
    }
    options = [f"-D{name}={value}" for name, value in given.items()]
    try:
        run(
            ["cmake", "-S", str(source), "-B", str(build), "-GNinja", "-Wno-dev", *options],
            environment,
        )
        run(["cmake", "--build", str(build)], environment)
        run(["cmake", "--install", str(build)], environment)
    except SystemExit as error:
        pytest.fail(str(error))


def _load(prefix: Path) -> None:
    """Make the packages of ``prefix`` those of this process, as a sourced shell would."""
    sys.path += [str(each) for each in prefix.glob("lib/python3*/site-packages")]
    os.environ["AMENT_PREFIX_PATH"] = f"{prefix}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    importlib.invalidate_caches()
    # DDS looks for them by name, in LD_LIBRARY_PATH as it was when the process began.
    for library in sorted(prefix.glob("lib/*_c.so")):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
