"""Say what this machine can run: ROS 2, every runtime, whether images arrive, and what is on the
ROS graph.

It sends 60 raw images from one process to another over DDS, as a camera does to the node, and
counts those that arrive. This takes about 8 s, and twice as long if images are lost. Then it
listens to the topics of cameras, poses, joint states and wrenches for about 4 s: rates, QoS that
does not fit, clocks that differ, and shared memory.

With --write it does only that, and writes a parameter file of the node for these topics.
"""

import importlib
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from vit_perception.cli.paths import user_path
from vit_perception.cli.processes import (
    PROFILE_VARIABLES,
    profile_variable,
    share_folder,
    use_large_data_profile,
)
from vit_perception.config.checks import home_path
from vit_perception.engines.available import available_backends
from vit_perception.engines.cpu_features import cpu_lines
from vit_perception.engines.cuda.gpus import Gpu, list_gpus
from vit_perception.engines.engine import BackendStatus
from vit_perception.engines.torch_engine import read_cpu
from vit_perception.files.atomic import check_new_file
from vit_perception.files.errors import MOST_SHOWN, InvalidValue, OperationFailed, printable
from vit_perception.ros.health.image_trial import ImageTrial, TrialResult, run_trial
from vit_perception.ros.suggest.ros_start import check_middleware

DEFAULT_MIDDLEWARE = "rmw_fastrtps_cpp"
ENOUGH_ARRIVE = 0.95  # of the images of the trial
EXAMPLES = """
vit-perception doctor
vit-perception doctor --no-images
vit-perception doctor --write params.yaml --checkpoint hf://facebook/dinov2-base
"""
LONGEST_LISTEN_S = 600.0
NEEDED = ("rclpy", "sensor_msgs", "vision_msgs", "cv2", "numpy", "safetensors", "torch")
WANTED = {
    "cv_bridge": "only encodings outside the usual ones need it",
    "simplejpeg": "JPEGs that are damaged inside pass as whole",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--no-images",
        action="store_true",
        help="do not send images to find out whether they arrive",
    )
    parser.add_argument(
        "--no-graph", action="store_true", help="do not listen to the topics on the ROS graph"
    )
    parser.add_argument(
        "--listen-s",
        type=float,
        default=4.0,
        metavar="S",
        help="how long to listen to the topics, at most (default: %(default)s)",
    )
    robot = parser.add_argument_group("a parameter file for the topics that are there")
    robot.add_argument(
        "--write",
        type=user_path,
        metavar="FILE",
        help="write parameters for the cameras, poses, joint states and wrenches that are "
        "published now; comments say where each value comes from",
    )
    robot.add_argument(
        "--checkpoint",
        default="",
        help="model.checkpoint of that file: a folder, a file, hf://owner/name, or demo (default: "
        "demo, to be filled in)",
    )
    robot.add_argument("--force", action="store_true", help="replace the file of --write")


def run(args: Namespace) -> int:
    """Print one line per finding; return 0 if the node can run here, 1 if something is missing."""
    if not 0.0 < args.listen_s <= LONGEST_LISTEN_S:
        raise InvalidValue(
            f" is {args.listen_s}; accepted: seconds above 0, at most {LONGEST_LISTEN_S:g}",
            argument="listen_s",
        )
    if args.write is not None:
        return write_for_the_graph(args.write, args.checkpoint, args.force, args.listen_s)
    if args.checkpoint or args.force:
        option = "--checkpoint" if args.checkpoint else "--force"
        raise InvalidValue(f"{option} without --write; accepted: with it")
    needed = {name: installed_version(name) for name in NEEDED}
    for name, (version, why_not) in needed.items():
        print(f"{name:<12} {version or f'MISSING ({why_not}): the node cannot run without it'}")
    for name, consequence in WANTED.items():
        version, why_not = installed_version(name)
        print(f"{name:<12} {version or f'{why_not}: {consequence}'}")
    print(f"{'DDS profile':<12} {profile()}")
    if not args.no_images and needed["rclpy"][0] and needed["sensor_msgs"][0]:
        print(f"{'images':<12} {images()}", flush=True)
    if not args.no_graph and needed["rclpy"][0] and needed["sensor_msgs"][0]:
        print("\n".join(graph(args.listen_s)), flush=True)
    print("".join(f"{line}\n" for line in gpu_lines(list_gpus())), end="")
    backends = available_backends()
    for head, line in zip(("CPU", ""), cpu_lines(*read_cpu(Path("/proc/cpuinfo")), backends)):
        print(f"{head:<12} {line}")
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


def write_for_the_graph(file: Path, checkpoint: str, force: bool, listen_s: float) -> int:
    """Write parameters for the topics that are published now to ``file``.

    Raises:
        InvalidValue: ``file`` or ``checkpoint`` is not accepted.
        OperationFailed: There is no camera whose images the node can use, or ROS does not start.
    """
    check_new_file(file, force, argument="write")
    checkpoint = given_checkpoint(checkpoint)
    variables = dict(os.environ)
    use_large_data_profile()
    check_middleware()
    from vit_perception.ros.suggest.choice import suggest
    from vit_perception.ros.suggest.findings import graph_lines
    from vit_perception.ros.suggest.listener import look_at_graph
    from vit_perception.ros.suggest.parameter_text import parameter_text, write_parameters

    seen = look_at_graph(listen_s)
    suggestion = suggest(seen)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    write_parameters(file, parameter_text(suggestion, seen, checkpoint, when))
    print("\n".join(graph_lines(seen, segment(variables))))
    names = ", ".join(each.name for chosen in suggestion.groups.values() for each in chosen)
    fill_in = "" if checkpoint else "Fill in model.checkpoint, then: "
    print(
        f"\nwritten: {file} ({names}). {fill_in}"
        f"encoder_node --ros-args --params-file {file} -p autostart:=true"
    )
    return 0


def given_checkpoint(checkpoint: str) -> str:
    """Return ``checkpoint`` as a parameter file needs it: a path becomes absolute.

    Raises:
        InvalidValue: It is a path to nothing.
    """
    if checkpoint in ("", "demo") or checkpoint.startswith("hf://"):
        return checkpoint
    path = os.path.abspath(home_path(checkpoint))
    if not os.path.exists(path):
        raise InvalidValue(
            f" is {checkpoint}, and nothing is there; accepted: a folder, a file, "
            "hf://owner/name, or demo",
            argument="checkpoint",
        )
    return path


def graph(listen_s: float) -> list[str]:
    """Return what is on the ROS graph, a line for each finding."""
    variables = dict(os.environ)
    use_large_data_profile()
    try:
        check_middleware()
        from vit_perception.ros.suggest.findings import graph_lines
        from vit_perception.ros.suggest.listener import look_at_graph

        return graph_lines(look_at_graph(listen_s), segment(variables))
    except OperationFailed as error:  # a finding, no failure: the rest is still of use
        return [f"{'graph':<12} {printable(str(error), 2 * MOST_SHOWN, keep='')}"]


def segment(variables: dict[str, str]):
    """Return what Fast DDS takes of the shared memory; None with another middleware."""
    from vit_perception.ros.suggest.shared_memory import segment_of

    if variables.get("RMW_IMPLEMENTATION", DEFAULT_MIDDLEWARE) != DEFAULT_MIDDLEWARE:
        return None
    return segment_of(variables, PROFILE_VARIABLES)


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
    from vit_perception.engines.openvino.int8_on_cpu import (
        comparison,
        kernels_saturate,
        linear_layer_speed,
    )

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
    """Return which DDS profile is set, and what its absence means for large images."""
    middleware = os.environ.get("RMW_IMPLEMENTATION", DEFAULT_MIDDLEWARE)
    if middleware != DEFAULT_MIDDLEWARE:
        return f"not needed with {middleware}"
    for variable in PROFILE_VARIABLES:
        if path := os.environ.get(variable):
            return f"{variable}={path}" + ("" if os.path.isfile(path) else ", which does not exist")
    return "not set: half or more of best-effort images above 0.5 MB from another process are lost"


def images(
    try_out: Callable[[ImageTrial, dict[str, str] | None], TrialResult] = run_trial,
) -> str:
    """Return how many raw images arrive in another process, and if many do not, what helps.

    The first trial has this process's own environment. If images are lost and no DDS profile is
    set, a second trial has the profile of this package.
    """
    trial = ImageTrial()
    try:
        result = try_out(trial, None)
        text = f"{trial_text(trial)}: {result_text(result)}"
        if result.arrived >= ENOUGH_ARRIVE * result.sent:
            return text
        text = f"WARNING: {text}"
        if os.environ.get("RMW_IMPLEMENTATION", DEFAULT_MIDDLEWARE) != DEFAULT_MIDDLEWARE or any(
            os.environ.get(variable) for variable in PROFILE_VARIABLES
        ):
            return text
        variable = profile_variable()
        path = str(share_folder() / "config/fastdds_large_data.xml")
        result = try_out(trial, {**os.environ, variable: path})
        return f"{text}\n{'':<12} with {variable}={path}, at both ends: {result_text(result)}"
    except (OperationFailed, OSError) as error:  # a finding, no failure: the rest is still of use
        return f"not measured: {printable(str(error), MOST_SHOWN, keep='')}"


def trial_text(trial: ImageTrial) -> str:
    """Return what is sent in a trial."""
    return (
        f"{trial.width_px}×{trial.height_px} bgr8 ({trial.megabytes:.1f} MB), best effort, "
        f"{trial.rate_hz:g} Hz, from another process"
    )


def result_text(result: TrialResult) -> str:
    """Return what arrived in a trial."""
    delay = f", after {result.median_ms:.0f} ms (median)" if result.arrived else ""
    return f"{result.arrived} of {result.sent} arrived{delay}"
