"""Import every module of the package, with stubs of torch and ROS; print each failure, and how many
worked.
"""

import importlib
import sys
from pathlib import Path

from test.python310 import stubs

STUBBED = {
    "torch",
    "rclpy",
    "launch",
    "ament_index_python",
    "cv_bridge",
    "rcl_interfaces",
    "sensor_msgs",
    "geometry_msgs",
    "std_msgs",
    "vision_msgs",
    "diagnostic_msgs",
    "rosgraph_msgs",
    "builtin_interfaces",
    "lifecycle_msgs",
    "tf2_msgs",
    "openvino",
    "onnx",
    "onnxruntime",
    "nncf",
    "transformers",
    "sklearn",
    "matplotlib",
    "huggingface_hub",
    "safetensors",
    "h5py",
    "pyarrow",
    "av",
    "rerun",
    "cv2",
}
PACKAGE = Path(__file__).resolve().parents[2] / "vit_perception"


def main() -> int:
    stubs.install(STUBBED)
    failed, names = (
        0,
        [
            ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            for path in sorted(PACKAGE.rglob("*.py"))
        ],
    )
    for name in names:
        try:
            importlib.import_module(name.removesuffix(".__init__"))
        except Exception as error:  # whatever an import raises is what is looked for
            failed += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"imported {len(names) - failed} of {len(names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
