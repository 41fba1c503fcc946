"""Play a recorded robot through the node: ros2 launch vit_perception demo.launch.py bag:=/path/to/pick_place_demo"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (DeclareLaunchArgument, EmitEvent, ExecuteProcess, IncludeLaunchDescription,
                            RegisterEventHandler)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

SHARE = get_package_share_directory('vit_perception')


def when_the_player_ends(event, context):
    """End the launch, too; with a failure where the player failed (130: somebody has interrupted it)."""
    if event.returncode not in (0, 130):
        raise RuntimeError(f'the player ended with exit status {event.returncode}')
    return [EmitEvent(event=Shutdown(reason='the bag has ended'))]


def generate_launch_description():
    encoder = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'vit_encoder.launch.py')),
        launch_arguments={'params_file': os.path.join(SHARE, 'config', 'demo.yaml')}.items())
    player = ExecuteProcess(
        cmd=[ExecutableInPackage('vit-perception', 'vit_perception'), 'replay', LaunchConfiguration('bag'),
             '--topics', '/agentview/image/compressed', '/wrist/image/compressed', '/ee_pose', '--wait-s', '120',
             '--rate', LaunchConfiguration('rate')],
        output='screen')
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='the recording, e.g. data/demo/pick_place_demo of the repository'),
        DeclareLaunchArgument('rate', default_value='1.0', description='times the recorded speed'),
        encoder,
        player,
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=when_the_player_ends)),
    ])
