"""What a machine lacks for ``make gpu-test``. Imports nothing that may be missing."""

from importlib import util

# Python package: the module that it is imported as. Without one of these nothing runs.
REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "safetensors": "safetensors",
}
# Without these, some steps and rows are left out.
OPTIONAL = {
    "pytest": "the tests marked gpu",
    "onnx": "TensorRT and its stand-in",
    "onnxscript": "TensorRT and its stand-in",
    "transformers": "the baseline of the speeds",
    "triton": "torch.compile",
}


def missing_packages(names: tuple[str, ...] = tuple(REQUIRED)) -> list[str]:
    """Those of ``names`` that this Python does not find."""
    return [name for name in names if util.find_spec(REQUIRED.get(name, name)) is None]


def why_no_gpu() -> str:
    """``""`` where torch has a GPU, else one sentence. Starts CUDA in this process."""
    from vit_perception.engines.tensorrt.api import find_gpu

    return find_gpu()[1]
