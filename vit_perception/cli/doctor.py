"""Say what this machine can run: ROS 2, the DDS profile for large images, and every runtime."""

import importlib
import os
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from vit_perception.cli.processes import PROFILE_VARIABLES
from vit_perception.engines.available import available_backends
from vit_perception.engines.cuda.gpus import Gpu, list_gpus
from vit_perception.engines.engine import BackendStatus
from vit_perception.files.errors import MOST_SHOWN, printable

NEEDED = ("rclpy", "sensor_msgs", "vision_msgs", "cv2", "numpy", "safetensors", "torch")
WANTED = {
    "cv_bridge": "only encodings outside the usual ones need it",
    "simplejpeg": "JPEGs that are damaged inside pass as whole",
}


def add_arguments(parser: ArgumentParser) -> None:
    """No arguments."""


def run(args: Namespace) -> int:
    """Print one line per finding; return 0 if the node can run here, 1 if something is missing."""
    needed = {name: installed_version(name) for name in NEEDED}
    for name, (version, why_not) in needed.items():
        print(f"{name:<12} {version or f'MISSING ({why_not}): the node cannot run without it'}")
    for name, consequence in WANTED.items():
        version, why_not = installed_version(name)
        print(f"{name:<12} {version or f'{why_not}: {consequence}'}")
    print(f"{'DDS profile':<12} {profile()}")
    print("".join(f"{line}\n" for line in gpu_lines(list_gpus())), end="")
    backends = available_backends()
    print("\nruntimes, in the order in which engine.backend auto tries them:")
    width = max(len(backend.name) for backend in backends)
    for backend in backends:
        print(f"{backend.name:<{width}} {described(backend)}")
    for backend in backends:
        if "int8" in backend.precisions:
            print(f"\n{'int8':<12} {int8_advice(backend.precisions[0])}")
    return (
        0
        if all(version for version, _ in needed.values()) and any(b.found for b in backends)
        else 1
    )


def gpu_lines(gpus: tuple[Gpu, ...]) -> list[str]:
    """Return a line for each GPU, with the index that ``engine.device`` takes."""
    return [f"{f'GPU {index}':<12} {gpu}" for index, gpu in enumerate(gpus)]


def described(backend: BackendStatus) -> str:
    """Return whether it is installed, version, device and precisions, or why not."""
    if not backend.found:
        return f"no   {backend.version + ': ' if backend.version else ''}{backend.why_not}"
    lacks_nncf = "int8" in backend.precisions and find_spec("nncf") is None
    note = " (int8 also needs nncf: pip install nncf)" if lacks_nncf else ""
    return f"yes  {backend.version} on {backend.device}: {', '.join(backend.precisions)}{note}"


def int8_advice(fastest: str) -> str:
    """Return what int8 is worth here compared with the precision ``fastest``.

    It is measured in a second, on layers as wide as those of ViT-S.
    """
    from vit_perception.engines.int8_on_cpu import comparison, kernels_saturate, linear_layer_speed

    try:
        measured = comparison(*linear_layer_speed(), fastest, "a chain of four ViT-S MLPs")
        note = (
            "; its products overflow on this CPU, so weights use 7 bits"
            if kernels_saturate()
            else ""
        )
    except Exception as error:  # a runtime that is found and does not run is a finding, no failure
        return f"not measured: {type(error).__name__}: {error}"
    return f"{'WARNING: ' if measured.slower else ''}{measured.text}{note}"


def installed_version(module: str) -> tuple[str, str]:
    """Return (version, "") of an installed module, or ("", why not) of one that cannot be imported.

    The version is "found" if the module has none.
    """
    try:
        return str(getattr(importlib.import_module(module), "__version__", "found")), ""
    except Exception as error:  # a library of another CUDA or NumPy raises what it likes
        missing = isinstance(error, ModuleNotFoundError) and error.name == module
        return "", "not installed" if missing else printable(
            f"does not load: {error}", MOST_SHOWN, keep=""
        )


def profile() -> str:
    """Return whether large images will arrive between processes on this machine."""
    middleware = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if middleware != "rmw_fastrtps_cpp":
        return f"not needed with {middleware}"
    for variable in PROFILE_VARIABLES:
        if path := os.environ.get(variable):
            return f"{variable}={path}" + ("" if os.path.isfile(path) else ", which does not exist")
    return (
        "not set: images above 0.5 MB will hardly arrive from another process; set "
        f"{' or '.join(PROFILE_VARIABLES)} to this package's config/fastdds_large_data.xml, at "
        "both ends"
    )
