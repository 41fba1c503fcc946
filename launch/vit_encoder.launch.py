"""Start the encoder node: ros2 launch vit_perception vit_encoder.launch.py
params_file:=/path/to/params.yaml
"""

import math
import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = get_package_share_directory("vit_perception")
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


def start_node(context):
    """The node; a file that is not there is refused, where launch would start the node without
    parameters.
    """
    params_file = os.path.expanduser(LaunchConfiguration("params_file").perform(context))
    if not os.path.isfile(params_file):
        raise FileNotFoundError(f"params_file:='{params_file}' is not a file")
    return [
        Node(
            package="vit_perception",
            executable="encoder_node",
            output="screen",
            emulate_tty=True,
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                params_file,
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
            OpaqueFunction(function=set_dds_profile),
            OpaqueFunction(function=start_node),
        ]
    )
