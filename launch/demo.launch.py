"""Play a recorded robot through the node: ros2 launch vit_perception demo.launch.py
bag:=/path/to/pick_place_demo
"""

import os
import signal

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchDescription

SHARE = get_package_share_directory("vit_perception")
VIEWERS = ("rviz2", "foxglove_bridge")
CLEAN = (0, 130, -signal.SIGINT)  # to its end, or interrupted


def generate_launch_description():
    encoder = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "vit_encoder.launch.py")),
        launch_arguments={
            "params_file": os.path.join(SHARE, "config", "demo.yaml"),
            "view": LaunchConfiguration("view"),
        }.items(),
    )
    player = ExecuteProcess(
        cmd=[
            ExecutableInPackage("vit-perception", "vit_perception"),
            "replay",
            LaunchConfiguration("bag"),
            "--topics",
            "/agentview/image/compressed",
            "/wrist/image/compressed",
            "/ee_pose",
            "--wait-s",
            "120",
            "--rate",
            LaunchConfiguration("rate"),
        ],
        output="screen",
    )

    def when_one_ends(event, context):
        """End the other and the launch, too: with status 0 when the bag has ended or somebody has
        interrupted it.
        """
        if event.process_name.startswith(VIEWERS):
            return None  # somebody has closed the window
        early = event.action is not player and not context.is_shutdown
        if early or event.returncode not in CLEAN:
            # Launch returns 1 for what a handler raises, and 0 after any event that asks for its
            # end.
            when = " before the bag did" if early else ""
            raise RuntimeError(
                f"{event.process_name} ended{when}, with exit status {event.returncode}"
            )
        return (
            None if context.is_shutdown else [EmitEvent(event=Shutdown(reason="the bag has ended"))]
        )

    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag", description="the recording, e.g. data/demo/pick_place_demo of the repository"
            ),
            DeclareLaunchArgument(
                "rate", default_value="1.0", description="times the recorded speed"
            ),
            DeclareLaunchArgument(
                "view",
                default_value="none",
                description="what shows the node's topics: none, rviz or foxglove",
            ),
            # First here is last in turn: the processes' own handlers print what is left of their
            # output before.
            RegisterEventHandler(OnProcessExit(on_exit=when_one_ends)),
            encoder,
            player,
        ]
    )
