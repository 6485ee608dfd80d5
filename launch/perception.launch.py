"""
Start the perception node; it configures and activates itself.

    ros2 launch imn_world_model perception.launch.py model:=FILE.onnx
        image_topics:="['/front/image_raw', '/left/image_raw/compressed']"
"""
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory('imn_world_model'))
# Launch arguments that become parameters when they are given; the parameters file has the rest.
OVERRIDES = ('model', 'image_topics', 'provider', 'use_sim_time', 'autostart')


def perception(context: LaunchContext) -> list[LifecycleNode]:
    """
    Build the node once the arguments are known.

    :param context: holds the arguments' values.
    """
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given = {name: yaml.safe_load(value(name)) for name in OVERRIDES if value(name)}
    return [LifecycleNode(
        package='imn_world_model', executable='perception', name='perception',
        namespace=value('namespace'), output='screen',
        parameters=[ParameterFile(value('params_file'), allow_substs=True), given],
        arguments=['--ros-args', '--log-level', value('log_level')])]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments."""
    return LaunchDescription([
        DeclareLaunchArgument('model', default_value='',
                              description='exported .onnx file; default: as in params_file'),
        DeclareLaunchArgument('image_topics', default_value='',
                              description='list of camera topics, raw and compressed in any mix'),
        DeclareLaunchArgument('provider', default_value='',
                              description='auto, cpu, cuda or tensorrt'),
        DeclareLaunchArgument('namespace', default_value='imn',
                              description='of the node and its output topics'),
        DeclareLaunchArgument('params_file',
                              default_value=str(SHARE / 'config' / 'perception.yaml'),
                              description='parameters that no argument here names'),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='true when a bag or simulator publishes /clock'),
        DeclareLaunchArgument('autostart', default_value='',
                              description='false leaves configuring to a lifecycle manager'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn or error'),
        OpaqueFunction(function=perception),
    ])
