"""A wheel of the package works outside the checkout, and its base needs numpy alone."""

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from test.conftest import ROOT
from test.waiting import run_program
from vit_perception import __version__
from vit_perception.cli.main import main

PARTS = ("vit_perception", "launch", "config", "rviz", "foxglove", "data", "examples", "resource")
FILES = ("setup.py", "setup.cfg", "package.xml", "pyproject.toml")
# In the requirements for another reason than to be imported by the package.
NOT_IMPORTED = {"catkin_pkg", "cmake", "ninja"}
# Data sets for training in torch.
NEED_TORCH = ("vit_perception.policy.dataset",)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", out, source)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def prefix(wheel, tmp_path_factory) -> Path:
    """Where the wheel is installed, alone."""
    folder = tmp_path_factory.mktemp("prefix")
    # Without --ignore-installed pip would first remove the package from this environment.
    pip("install", "--ignore-installed", "--no-warn-script-location", "--prefix", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A new virtual environment with the wheel and numpy, and nothing else: not even pip."""
    folder = tmp_path_factory.mktemp("environment")
    done = run_program([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    assert done.returncode == 0, done.stderr
    pip("install", wheel, python=folder / "bin/python")
    (numpys_own,) = Path(np.__file__).parent.parent.glob("numpy-*.dist-info")
    only(["numpy", "numpy.libs", numpys_own.name], packages_of(folder))
    return folder


def pip(command: str, *arguments, python: Path | None = None) -> None:
    """Run pip of this environment, for another one if ``python`` is given."""
    other = ("--python", python) if python else ()
    always = ("--no-deps", "--no-index", "--quiet")
    program = [sys.executable, "-m", "pip", "--disable-pip-version-check", *other, command]
    done = run_program([*program, *always, *arguments])
    assert done.returncode == 0, done.stderr


def packages_of(prefix: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(prefix)}))


def run_in(prefix: Path, program: str, *more_folders: Path) -> str:
    """What ``program`` prints with the wheel and ``more_folders`` on its path, and nothing else
    that is installed.
    """
    folders = [str(packages_of(prefix)), *map(str, more_folders)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {folders}\n{program}"],
        cwd=prefix,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_this_environment_keeps_its_own_package(prefix):
    """Regression: pip removed it here before it installed the wheel elsewhere."""
    done = run_program([sys.executable, "-m", "pip", "show", "--quiet", "vit_perception"])
    assert done.returncode == 0, done.stderr


def only(names: list[str], folder: Path) -> None:
    """Links to some of what is installed here, in ``folder``."""
    site = Path(np.__file__).parent.parent
    for name in names:
        if (site / name).exists():  # some builds of numpy have their libraries elsewhere
            (folder / name).symlink_to(site / name)


def test_the_base_needs_numpy_alone(prefix, tmp_path):
    """A policy's machine decodes what the node publishes, and reads stored features."""
    only(["numpy", "numpy.libs"], tmp_path)
    program = f"""
import importlib, pkgutil
for room in ("wire", "policy"):
    package = importlib.import_module("vit_perception." + room)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in {NEED_TORCH}:
            importlib.import_module(module.name)
print(sorted({{m.split(".")[0] for m in sys.modules}} & {{"torch", "cv2", "rclpy", "yaml", "PIL"}}))
print(package.__file__)
"""
    third_party, file = run_in(prefix, program, tmp_path).splitlines()
    assert third_party == "[]" and Path(file).is_relative_to(prefix)


def run_outside(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a program of ``environment`` in ``folder``, without what this process's variables add."""
    program, *arguments = command
    return subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        text=True,
        capture_output=True,
    )


def test_a_new_environment_needs_numpy_alone(environment, tmp_path):
    # Fails if the wheel asks for anything beside numpy.
    done = run_program(
        [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "check"]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = run_outside(environment, tmp_path, "vit-perception", "--version")
    assert said.stdout == f"vit-perception {__version__}\n"
    program = """
import numpy as np
from types import SimpleNamespace
from vit_perception.wire import decode_tensor
rows = np.arange(6, dtype=np.float32).reshape(2, 3)
sent = SimpleNamespace(height=2, width=3, encoding="32FC1", is_bigendian=0, step=12,
                       data=rows.tobytes())
assert (decode_tensor(sent) == rows).all()
"""
    done = run_outside(environment, tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr


def test_without_its_packages_the_nodes_program_says_in_a_line_where_they_come_from(
    environment, tmp_path
):
    """Regression: a traceback."""
    done = run_outside(environment, tmp_path, "encoder_node")
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("encoder_node: No module named ") and "pip" in said


def test_without_ros_the_nodes_program_says_that_ros_is_missing():
    program = """
import sys
sys.modules["rclpy"] = None
from vit_perception.ros.start import main
sys.exit(main([]))
"""
    done = run_program([sys.executable, "-c", program])
    assert done.returncode == 1
    assert "it comes with ROS 2: source its setup.bash" in done.stderr


def test_a_subcommand_without_its_packages_says_in_a_line_where_they_come_from(prefix, tmp_path):
    """Regression: a traceback, and no word of the extras."""
    only(["numpy", "numpy.libs"], tmp_path)
    program = """
import contextlib, io
from vit_perception.cli.main import main
with contextlib.redirect_stderr(io.StringIO()) as said:
    assert main(["embed", "bag", "--out", "features"]) == 1
print(said.getvalue().strip())
"""
    said = run_in(prefix, program, tmp_path)
    assert said.startswith("vit-perception embed: No module named ")
    assert "vit_perception[all]" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("subcommand", ["status", "demo"])
def test_without_ros_it_says_that_ros_is_missing(subcommand, monkeypatch, capsys):
    """Regression: the demo fitted its heads for minutes before it said so."""
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delitem(sys.modules, "vit_perception.cli.status", raising=False)
    monkeypatch.delitem(sys.modules, "vit_perception.ros.health.status_watch", raising=False)
    assert main([subcommand]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "it comes with ROS 2: source its setup.bash" in printed.err


def test_config_launch_and_the_demo_are_found_from_an_installed_wheel(prefix):
    program = """
from vit_perception.cli.processes import share_folder
from vit_perception.recordings.reader import BagReader
print(share_folder())
with BagReader(share_folder() / "data/demo/pick_place_demo") as bag:
    print(bag.count("/ee_pose"))
"""
    site = Path(np.__file__).parent.parent
    folder, poses = run_in(prefix, program, site).splitlines()
    share = prefix / "share/vit_perception"
    assert Path(folder) == share and int(poses) > 0
    assert (share / "config/demo.yaml").is_file()
    assert (share / "launch/vit_encoder.launch.py").is_file()
    assert (share / "rviz/vit_perception.rviz").is_file()
    assert len(list((share / "foxglove").glob("*.json"))) == 2
    assert (share / "data/demo/pick_place_train").is_dir()
    assert list(packages_of(prefix).glob("vit_perception/engines/parity_pictures/*.jpg"))


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def required(wheel: Path, extra: str, machine: str) -> set[str]:
    """The packages that pip installs for ``vit_perception[extra]`` on a kind of processor."""
    place = {"extra": extra, "platform_machine": machine}
    found = map(Requirement, metadata_of(wheel).get_all("Requires-Dist"))
    return {canonical(r.name) for r in found if r.marker is None or r.marker.evaluate(place)}


def test_it_has_both_programs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entries,) = [n for n in archive.namelist() if n.endswith("/entry_points.txt")]
        programs = set(re.findall(r"^(\S+) =", archive.read(entries).decode(), re.M))
    assert programs == {"encoder_node", "vit-perception"}


def test_its_extras_are_what_the_requirements_pin(wheel):
    pinned = {
        canonical(line)
        for file in ("runtime.txt", "fleet.txt")
        for line in (ROOT / "requirements" / file).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    assert required(wheel, "", "x86_64") == {"numpy"}
    assert required(wheel, "all", "x86_64") == pinned - {canonical(n) for n in NOT_IMPORTED}


def test_on_a_jetson_no_extra_asks_for_what_comes_with_jetpack(wheel):
    """PyPI's torch for aarch64 would take the place of the one that JetPack's CUDA needs."""
    extras = metadata_of(wheel).get_all("Provides-Extra")
    asked = {extra: required(wheel, extra, "aarch64") for extra in extras}
    ours = {"torch", "openvino", "opencv-python-headless"}
    assert {"encoder", "bags", "features", "training", "all"} <= set(extras)
    assert not any(ours & packages for packages in asked.values())
    assert required(wheel, "all", "x86_64") - asked["all"] == ours


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()
