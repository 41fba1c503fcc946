"""Start the encoder node: ros2 launch vit_perception vit_encoder.launch.py params_file:=/path/to/params.yaml"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory('vit_perception')
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def set_dds_profile(context):
    """Let images above 0.5 MB through shared memory; a profile that the user has chosen stays."""
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return []
    profile = os.path.join(SHARE, 'config', 'fastdds_large_data.xml')
    # Humble and Jazzy read the second name, Kilted and later the first.
    return [SetEnvironmentVariable(PROFILE_VARIABLES[os.environ.get('ROS_DISTRO') in ('humble', 'jazzy')], profile)]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument('params_file', default_value=os.path.join(SHARE, 'config', 'one_camera_one_arm.yaml'),
                              description='YAML file with the parameters of the node'),
        DeclareLaunchArgument('name', default_value='vit_encoder', description='name of the node and its topics'),
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node'),
        DeclareLaunchArgument('autostart', default_value='true', description='configure and activate at once'),
        DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn or error'),
    ]
    node = Node(
        package='vit_perception', executable='encoder_node', output='screen', emulate_tty=True,
        name=LaunchConfiguration('name'), namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'),
                    {'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool)}],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=set_dds_profile), node])
