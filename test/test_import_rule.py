"""The import rule of vit_perception/__init__.py: read from the source, and tried in a clean interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT

PACKAGE = ROOT / "vit_perception"
# Recordings as they are, without knowing what is in them: calibration images are read below the other bag modules.
RECORDINGS = {f"bags.{name}" for name in (
    "bag_files", "bag_folder", "definitions", "mcap_chunks", "mcap_file", "mcap_records", "reader", "recorded_qos",
    "recording_kind", "sqlite_file", "storage", "unpacking")}
# Each layer may import itself and those before it. A module that is named itself stands where it is named.
LAYERS = [{"errors"}, {"regular_files"},
          {"body_settings", "safetensors_header", "types", "durable", "heap", "parameter_files", "private_cache",
           "setting_checks", "settings", "telemetry", "wire", "yaml_files"},
          RECORDINGS, {"image", "pose"}, {"model", "fusion"}, {"checkpoints", "export"}, {"engines"},
          {"zero_shot", "pipeline", "pipeline_parts", "pipeline_layout"}, {"bags"}, {"policy"}, {"training"}, {"explain"},
          {"ros"}, {"cli"}]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ROS_PACKAGES = ("rclpy", "rcl_interfaces", "launch", "ament_index_python")
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
TORCH_FREE = {"errors", "types", "settings", "wire", "image.decode", "image.patch_geometry", "image.views", "pose.history",
              "pose.rotation", "policy.live", "policy.features", "yaml_files", "parameter_files"}


def level(name: str) -> int:
    return LEVEL[name] if name in LEVEL else LEVEL[name.split(".")[0]]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """Every module that ``path`` imports, wherever in the file, but for the sake of type checkers alone."""
    tree = ast.parse(path.read_text())
    skipped = {id(n) for node in ast.walk(tree)
               if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" for n in ast.walk(node)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path):
    own = level(dotted(path))
    for name in imported(path):
        if name.startswith("vit_perception."):
            assert level(name.removeprefix("vit_perception.")) <= own, f"{dotted(path)} imports {name}, which stands above it"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_ros_and_cli_import_ros(path):
    if dotted(path).split(".")[0] in ("ros", "cli"):
        return
    ros = {n for n in imported(path) if n.split(".")[0] in ROS_PACKAGES or n.split(".")[0].endswith("_msgs")}
    assert not ros


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_the_torch_engine_touches_the_model(path):
    name = dotted(path)
    if name.startswith("engines.") and name != "engines.torch_engine":
        assert not {n for n in imported(path) if n.startswith("vit_perception.model")}


def test_opencv_is_imported_in_one_place_which_sets_its_limits():
    assert [dotted(p) for p in MODULES if "cv2" in imported(p)] == ["image.opencv"]


def test_the_package_itself_imports_nothing():
    assert not imported(PACKAGE / "__init__.py")


def test_every_module_below_ros_imports_without_ros_and_without_the_runtimes():
    """In a clean interpreter with rclpy, TensorRT and OpenVINO blocked; the light ones also without torch."""
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
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"imported {len(modules)}\n"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_files_stay_readable(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 300 and max(map(len, lines)) <= 120
