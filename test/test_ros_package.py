"""package.xml, setup.py and CHANGELOG.rst are what rosdep, bloom and colcon need, and agree."""

import configparser
import io
import json
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import docutils.core
import pytest
import setuptools
from catkin_pkg.changelog import Changelog, populate_changelog_from_rst
from catkin_pkg.package import parse_package
from catkin_pkg.package_version import get_forthcoming_label, rename_section

from test.conftest import ROOT
from vit_perception import __version__

# The keys of rosdep that come as Debian packages on Ubuntu 22.04 and 24.04, as of August 2026.
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "opencv-python-headless": "python3-opencv",
    "pillow": "python3-pil",
    "PyYAML": "python3-yaml",
    "matplotlib": "python3-matplotlib",
    "scikit-learn": "python3-sklearn",
    "rich": "python3-rich",
    "pytest": "python3-pytest",
    "pytest-timeout": "python3-pytest-timeout",
    "hypothesis": "python3-hypothesis",
}
# rosbags brings these along.
WITH_ROSBAGS = {"apsw", "lz4", "backports.zstd"}
# Files with a line of pip for a robot, and what the line leaves to JetPack.
ROBOT_LINES = {
    "README.md": set(),
    "docs/jetson.md": {"torch", "openvino"},
    "docker/cuda.Dockerfile": set(),
    "docker/jetson.Dockerfile": {"torch", "openvino"},
}


@pytest.fixture(scope="module")
def setup() -> dict:
    """The arguments of setup() in setup.py."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", given.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return given


@pytest.fixture(scope="module")
def package():
    warnings = []
    read = parse_package(str(ROOT / "package.xml"), warnings=warnings)
    read.validate(warnings=warnings)
    assert warnings == []
    return read


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", each).group() for each in requirements}


def test_package_and_setup_say_the_same(package, setup):
    assert package.version == setup["version"] == __version__
    assert package.name == setup["name"]
    assert [(m.name, m.email) for m in package.maintainers] == [
        (setup["maintainer"], setup["maintainer_email"])
    ]
    assert package.licenses == [setup["license"]]
    assert (ROOT / package.licenses[0].file).is_file()
    assert package.get_build_type() == "ament_python"


def test_every_package_of_pip_that_rosdep_knows_is_named(package, setup):
    extras = setup["extras_require"]
    asked = names_of(setup["install_requires"]) | names_of(extras["all"])
    keys = {ROSDEP_KEYS[name] for name in asked & ROSDEP_KEYS.keys()}
    assert keys == {d.name for d in package.exec_depends if d.name.startswith("python3-")}
    tested = {d.name for d in package.test_depends}
    assert tested == {ROSDEP_KEYS[name] for name in names_of(extras["test"])}


@pytest.mark.parametrize("page", ROBOT_LINES)
def test_the_line_of_pip_for_a_robot_has_what_rosdep_does_not(page, setup):
    text = (ROOT / page).read_text()
    (line,) = re.findall(r"^(?:RUN )?pip install (?:--\S+ )*'numpy<2' (.+)$", text, re.M)
    extras = setup["extras_require"]
    # A robot neither runs a fleet's recordings nor searches them.
    desk = names_of(extras["ray"]) | names_of(extras["search"])
    without_key = names_of(extras["all"]) - desk - ROSDEP_KEYS.keys() - WITH_ROSBAGS
    assert without_key - ROBOT_LINES[page] <= names_of(line.split())
    assert not ROBOT_LINES[page] & names_of(line.split())


def test_the_image_for_the_gpu_has_the_tensorrt_rtx_that_is_tested():
    pinned = re.findall(r"^tensorrt-rtx\S+", (ROOT / "requirements/test.txt").read_text(), re.M)
    image = (ROOT / "docker/cuda.Dockerfile").read_text()
    assert len(pinned) == 2 and all(each in image for each in pinned)


def copied(dockerfile: str) -> set[str]:
    """The files and folders of the checkout that an image copies."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.M)
    return {name for line in lines for name in line.split()}


def test_what_the_images_copy_is_there_and_reaches_the_builder():
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    files = list((ROOT / "docker").glob("*.Dockerfile"))
    asked = set().union(*(copied(path.read_text()) for path in files)) - {"."}
    assert len(files) == 3 and len(asked) > 10
    for name in sent | asked:
        assert (ROOT / name).exists(), name
    assert {name.split("/")[0] for name in asked} <= sent
    # `COPY . …` and colcon: all that setup.py installs, and the hook that puts it on the path.
    installed = {"setup.py", "setup.cfg", "config", "launch", "data", "examples", "resource"}
    assert installed | {"package.xml", "colcon.pkg", "vit_perception", "LICENSE"} <= sent


def test_every_xml_file_is_well_formed():
    files = [ROOT / "package.xml", *(ROOT / "config").glob("*.xml")]
    assert len(files) > 2
    for path in files:
        ElementTree.parse(path)


def test_colcon_test_runs_folders_that_exist():
    """A pytest that is given no folder that exists runs nothing and fails."""
    folders = json.loads((ROOT / "colcon.pkg").read_text())["pytest-args"]
    assert folders and all(any((ROOT / each).glob("test_*.py")) for each in folders)


def test_a_workspace_puts_both_programs_on_the_path(setup):
    """Regression: after `source install/setup.bash`, vit-perception was not found: colcon installs
    programs where `ros2 run` looks for them, which is on no path.
    """
    (hook,) = json.loads((ROOT / "colcon.pkg").read_text())["hooks"]
    installed = {
        f"{folder}/{Path(file).name}": ROOT / file
        for folder, files in setup["data_files"]
        for file in files
    }
    kind, variable, folder = installed[hook].read_text().strip().split(";")
    assert (kind, variable) == ("prepend-non-duplicate", "PATH")
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    assert config["install"]["install_scripts"] == f"$base/{folder}"


def test_bloom_reads_the_changelog(package):
    text = (ROOT / "CHANGELOG.rst").read_text()
    problems = io.StringIO()
    docutils.core.publish_doctree(
        text, settings_overrides={"warning_stream": problems, "report_level": 1}
    )
    assert problems.getvalue() == ""
    # As catkin_prepare_release does for a release.
    if label := get_forthcoming_label(text):
        text = rename_section(text, label, f"{package.version} (2026-12-31)")
    changelog = populate_changelog_from_rst(Changelog(package.name), text)
    versions = [version for version, *_ in changelog.foreach_version()]
    assert package.version in versions
    told = [
        p for v in versions for part in changelog.get_content_of_version(v) for p in part.bullets
    ]
    assert len(told) == len(re.findall(r"^\* ", text, re.M)) > 10
