"""What the node says to a person who starts it: its state, what it waits for, how to go on.

Quick to import: ``encoder_node --help`` does it.
"""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from vit_perception.config.parameter_files import ParameterFile
from vit_perception.files.errors import InvalidValue, printable

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

STARTING = (
    "encoder_node: starting; ROS and torch take some seconds to load. Without `-p autostart:=true` "
    "the node then waits for `ros2 lifecycle set NODE configure` and `... activate`"
)
LOADING = "encoder_node: loading ROS and torch"
HELP = """\
encoder_node: camera images and end-effector poses in, Vision Transformer tokens out.

    ros2 run vit_perception encoder_node --ros-args --params-file FILE -p autostart:=true
    ros2 launch vit_perception vit_encoder.launch.py params_file:=FILE
    .venv/bin/encoder_node --ros-args --params-file FILE -p autostart:=true     # in this checkout

options, all after --ros-args:
    --params-file FILE        parameters, in YAML; config/ has files to start from
    -p NAME:=VALUE            one parameter
    -p autostart:=true        configure and activate at once; without it the node waits
    -r __node:=NAME           another name than vit_encoder; FILE must have parameters of that name
    -r __ns:=/NAMESPACE       a namespace
    -r TOPIC:=OTHER           another name for a topic
    --log-level LEVEL         debug, info, warn or error

Without autostart the node waits for two transitions:
    ros2 lifecycle set /vit_encoder configure
    ros2 lifecycle set /vit_encoder activate

`vit-perception status` shows what a running node is at; `vit-perception doctor`, what this machine
can run. README.md lists topics and parameters.
"""


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether help is asked for; options of ROS stand between --ros-args and --."""
    own = _split(arguments)[0]
    return "-h" in own or "--help" in own


def parameter_files(arguments: Sequence[str]) -> list[Path]:
    """The files that ``--params-file`` names."""
    ros = _split(arguments)[1]
    return [Path(file) for flag, file in pairwise(ros) if flag == "--params-file"]


def missing_file(files: Sequence[Path]) -> str:
    """One line about the first of ``files`` that is not there; "" if all are."""
    missing = next((file for file in files if not file.exists()), None)
    if missing is None:
        return ""
    return printable(
        f"encoder_node: --params-file: there is no {missing}; accepted: a parameter file of the "
        "node, as config/demo.yaml"
    )


def waits_for(node: str, state: str) -> str:
    """What a node in ``state`` waits for, and the commands; "" where it waits for nobody."""
    lacks = "" if shutil.which("ros2") else " (this shell has no `ros2`)"
    if state == "unconfigured":
        return (
            f"it waits for configure and activate. Either `{_set(node, 'configure')}` and "
            f"`{_set(node, 'activate')}`{lacks}, or start it with `--ros-args -p autostart:=true`, "
            "which does both"
        )
    if state == "inactive":
        return f"it waits for activate: `{_set(node, 'activate')}`{lacks}"
    return ""


def stays(node: str, transition: str) -> str:
    """What becomes of a node whose ``transition`` failed, and how to try again."""
    again = f"try again with `{_set(node, transition)}`"
    if transition != "configure":
        return f"the node stays; {again}"
    return (
        f"the node stays, unconfigured. Set what is wrong (`ros2 param set {node} NAME VALUE`) and "
        f"{again}. A changed parameter file is read when the node is started again"
    )


def other_names(node: str, files: Sequence[Path]) -> list[str]:
    """One line about each of ``files`` that has parameters, but none of ``node``."""
    lines = []
    for file in files:
        try:
            content = ParameterFile(file)
        except (InvalidValue, OSError):
            continue  # what ROS cannot read either, it has said
        if any(content.sections_for(node)):
            continue
        lines.append(
            f"{file} has parameters of {', '.join(content.names[:5])}, and this node is {node}: "
            "none is used; accepted: `-r __node:=NAME` with a name of the file, or a file with "
            "this node's name"
        )
    return lines


class FirstWords:
    """Tells the log of ``node``; ``files`` are the parameter files that ROS was given."""

    def __init__(self, node: "LifecycleNode", files: Sequence[Path]):
        self._node = node
        self._name = node.get_fully_qualified_name()
        self._files = files

    def waiting(self, state: str) -> None:
        """Say that the node is in ``state``, and how to go on."""
        self._node.get_logger().info(f"{state}: {waits_for(self._name, state)}")
        self._tell_other_names()

    def failed(self, transition: str) -> None:
        """Say, after why ``transition`` failed, what becomes of the node."""
        self._tell_other_names()
        self._node.get_logger().info(stays(self._name, transition))

    def _tell_other_names(self) -> None:
        for line in other_names(self._name, self._files):
            self._node.get_logger().warning(printable(line))


def _set(node: str, transition: str) -> str:
    return f"ros2 lifecycle set {node} {transition}"


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """``arguments`` of the program, and those of ROS."""
    own: list[str] = []
    ros: list[str] = []
    current = own
    for word in arguments:
        if word == "--ros-args":
            current = ros
        elif word == "--" and current is ros:
            current = own
        else:
            current.append(word)
    return own, ros
