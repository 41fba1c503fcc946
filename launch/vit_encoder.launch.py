"""Start the encoder node: ros2 launch vit_perception vit_encoder.launch.py
params_file:=/path/to/params.yaml
"""

import math
import os
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.logging import launch_config
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from vit_perception.viewing.viewer_files import shown_of, text_for

SHARE = get_package_share_directory("vit_perception")
# Package and program of each viewer, and the end of its file.
VIEWERS = {"rviz": ("rviz2", ".rviz"), "foxglove": ("foxglove_bridge", ".json")}
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def set_dds_profile(context):
    """Let images above 0.5 MB through shared memory; a profile that the user has chosen stays."""
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return []
    profile = os.path.join(SHARE, "config", "fastdds_large_data.xml")
    # Humble and Jazzy read the second name, Kilted and later the first.
    return [
        SetEnvironmentVariable(
            PROFILE_VARIABLES[os.environ.get("ROS_DISTRO") in ("humble", "jazzy")], profile
        )
    ]


def seconds(context, name):
    """The launch argument ``name`` in seconds; launch wants a number where it has no
    substitution.
    """
    text = LaunchConfiguration(name).perform(context)
    try:
        value_s = float(text)
    except ValueError:
        value_s = math.nan
    if not 0.0 <= value_s < math.inf:
        raise ValueError(f"{name}:='{text}' is not a number of seconds of 0 or more")
    return value_s


def parameters_of(context):
    """The parameter file; one that is not there is refused, where launch would start the node
    without parameters.
    """
    params_file = os.path.expanduser(LaunchConfiguration("params_file").perform(context))
    if not os.path.isfile(params_file):
        raise FileNotFoundError(f"params_file:='{params_file}' is not a file")
    return params_file


def start_view(context):
    """RViz, or the bridge to Foxglove, with the topics of this node; its file is in the log folder
    of this launch.
    """
    view = LaunchConfiguration("view").perform(context)
    if view == "none":
        return []
    if view not in VIEWERS:
        raise ValueError(f"view:='{view}'; accepted: none, {', '.join(VIEWERS)}")
    package, ending = VIEWERS[view]
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        release = os.environ.get("ROS_DISTRO", "<release>")
        debian = f"ros-{release}-{package.replace('_', '-')}"
        raise RuntimeError(
            f"view:='{view}' needs the package {package}: sudo apt install {debian}"
        ) from None
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    name = LaunchConfiguration("name").perform(context)
    node = f"/{namespace}/{name}" if namespace else f"/{name}"
    file = Path(launch_config.log_dir) / f"vit_perception{ending}"
    file.write_text(text_for(view, shown_of(Path(parameters_of(context)), node)))
    if view == "rviz":
        return [Node(package=package, executable=package, arguments=["-d", str(file)])]
    return [
        # To this machine alone; from another one through ssh -L 8765:localhost:8765.
        Node(
            package=package,
            executable=package,
            parameters=[{"port": 8765, "address": "127.0.0.1"}],
        ),
        LogInfo(msg=f"Foxglove: open ws://localhost:8765, and import the layout {file}"),
    ]


def start_node(context):
    """The node."""
    return [
        Node(
            package="vit_perception",
            executable="encoder_node",
            output="screen",
            emulate_tty=True,
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                parameters_of(context),
                {"autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool)},
            ],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            respawn=LaunchConfiguration("respawn"),
            respawn_delay=seconds(context, "respawn_delay"),
        )
    ]


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(SHARE, "config", "one_camera_one_arm.yaml"),
                description="YAML file with the parameters of the node",
            ),
            DeclareLaunchArgument(
                "name", default_value="vit_encoder", description="name of the node and its topics"
            ),
            DeclareLaunchArgument(
                "namespace", default_value="", description="namespace of the node"
            ),
            DeclareLaunchArgument(
                "autostart", default_value="true", description="configure and activate at once"
            ),
            DeclareLaunchArgument(
                "log_level", default_value="info", description="debug, info, warn or error"
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                description="start the node again when it has ended",
            ),
            # A process that takes a killed one's shared-memory port while peers still send there
            # can stay deaf for good (eProsima/Fast-DDS issue 5469): start when the lease in
            # config/fastdds_large_data.xml has run out.
            DeclareLaunchArgument(
                "respawn_delay", default_value="4.0", description="s from its end to the new start"
            ),
            DeclareLaunchArgument(
                "view",
                default_value="none",
                description="what shows the node's topics: none, rviz or foxglove",
            ),
            OpaqueFunction(function=set_dds_profile),
            # First, so that nothing has started if it is refused.
            OpaqueFunction(function=start_view),
            OpaqueFunction(function=start_node),
        ]
    )
