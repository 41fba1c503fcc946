"""The import rule of vit_perception/__init__.py: read from the source, and tried in a clean
interpreter.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT

PACKAGE = ROOT / "vit_perception"
# Each room may import itself and those before it.
ROOMS = (
    "files",
    "wire",
    "recordings",
    "policy",
    "config",
    "image",
    "streams",
    "model",
    "heads",
    "tokens",
    "checkpoints",
    "engines",
    "pipeline",
    "datasets",
    "training",
    "viewing",
    "ros",
    "cli",
)
ROS_PACKAGES = ("rclpy", "rcl_interfaces", "launch", "ament_index_python")
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
TORCH_FREE = {
    "wire.records",
    "wire.layout",
    "wire.tensors",
    "config.settings",
    "config.parameter_files",
    "image.decode",
    "image.patch_geometry",
    "pipeline.feature_views",
    "streams.pose_history",
    "streams.rotation",
    "streams.camera_sync",
    "policy.live",
    "policy.features",
    "files.errors",
    "files.yaml_files",
}
MOST_FILES = 15
# The aim is 300: four modules are a little longer.
MOST_LINES = 315
# The torch engine runs the model itself; the others' graph is made of it, and held against it, in
# these.
MAY_TOUCH_THE_MODEL = {
    "engines.torch_engine",
    "engines.encoder_graph",
    "engines.onnx_export",
    "engines.reference",
}


def level(name: str) -> int:
    return ROOMS.index(name.split(".")[0])


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@functools.cache  # several tests read every file, and parsing is what they take their time for
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def type_checking_only(tree: ast.AST) -> set[int]:
    return {
        id(n)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for n in ast.walk(node)
    }


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Every module that ``path`` imports, wherever in the file, but for the sake of type checkers
    alone.
    """
    tree = parsed(path)
    skipped = type_checking_only(tree)
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return frozenset(names)


def imported_modules(path: Path) -> set[str]:
    """As ``imported``, with ``from package import module`` as the module."""
    tree = parsed(path)
    skipped = type_checking_only(tree)
    names = set(imported(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped and node.module:
            inner = {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (ROOT / f"{node.module}.{alias.name}".replace(".", "/"))
                .with_suffix(".py")
                .exists()
            }
            names = (
                names - {node.module} | inner if len(inner) == len(node.names) else names | inner
            )
    return names


def test_the_list_of_rooms_is_the_package():
    assert {p.parent.name for p in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    assert not [p.name for p in PACKAGE.glob("*.py") if p.name != "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path):
    own = level(dotted(path))
    for name in imported(path):
        if name.startswith("vit_perception."):
            assert level(name.removeprefix("vit_perception.")) <= own, (
                f"{dotted(path)} imports {name}, which stands above it"
            )


def test_no_two_modules_import_each_other_round_a_circle():
    """What is imported at the top of a file or inside a function alike, packages' ``__init__``
    included.
    """
    files = {dotted(p).removesuffix(".__init__"): p for p in PACKAGE.rglob("*.py")}
    edges = {
        name: {found.removeprefix("vit_perception.") for found in imported_modules(path)}
        & set(files)
        for name, path in files.items()
    }
    edges = {name: found - {name} for name, found in edges.items()}
    while leaves := [name for name, found in edges.items() if not found & set(edges)]:
        for name in leaves:
            del edges[name]
    assert not edges, f"in or above a circle: {sorted(edges)}"


def test_no_folder_holds_more_files_than_a_reader_takes_in():
    for folder in {path.parent for path in MODULES}:
        count = len([p for p in folder.glob("*.py") if p.name != "__init__.py"])
        assert count <= MOST_FILES, f"{folder.relative_to(ROOT)}: {count} files"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_ros_and_cli_import_ros(path):
    if dotted(path).split(".")[0] in ("ros", "cli"):
        return
    ros = {
        n
        for n in imported(path)
        if n.split(".")[0] in ROS_PACKAGES or n.split(".")[0].endswith("_msgs")
    }
    assert not ros


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_the_torch_engine_touches_the_model(path):
    name = dotted(path)
    if name.startswith("engines.") and name not in MAY_TOUCH_THE_MODEL:
        assert not {n for n in imported(path) if n.startswith("vit_perception.model")}


def test_opencv_is_imported_in_one_place_which_sets_its_limits():
    assert [dotted(p) for p in MODULES if "cv2" in imported(p)] == ["image.opencv"]


def test_the_package_itself_imports_nothing():
    assert not imported(PACKAGE / "__init__.py")


def test_every_module_below_ros_imports_without_ros_and_without_the_runtimes():
    """In a clean interpreter with rclpy, TensorRT and OpenVINO blocked; the light ones also without
    torch.
    """
    modules = [dotted(p) for p in MODULES if dotted(p).split(".")[0] not in ("ros", "cli")]
    light = [m for m in modules if m in TORCH_FREE]
    assert set(light) == TORCH_FREE
    program = f"""
import importlib, sys
class Blocked:
    names = {{"rclpy", "tensorrt", "tensorrt_rtx", "openvino", "cv_bridge", "sensor_msgs", "torch", "onnxruntime",
             "nncf", "tensorrt_rtx_bindings"}}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
for name in {light}:
    importlib.import_module("vit_perception." + name)
Blocked.names = Blocked.names - {{"torch"}}
for name in {modules}:
    importlib.import_module("vit_perception." + name)
print("imported", len({modules}))
"""  # noqa: E501
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"imported {len(modules)}\n"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_files_stay_readable(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MOST_LINES
