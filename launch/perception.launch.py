"""
Start the perception node; it configures and activates itself.

    ros2 launch imn_world_model perception.launch.py model:=FILE.onnx
        image_topics:=/front/image_raw,/left/image_raw/compressed
"""
import sys
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile

from imn_world_model.nodes import launching
from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory('imn_world_model'))
# Launch arguments that become parameters when they are given; the parameters file has the rest.
OVERRIDES = {
    # From where the user stands, wherever the node is started.
    'model': lambda text: str(Path(text).expanduser().absolute()),
    'image_topics': launching.topics,
    'provider': str,
    'qos_reliability': str,
    'use_sim_time': yaml.safe_load,
    'autostart': yaml.safe_load,
}
ARGUMENTS = [
    DeclareLaunchArgument('model', default_value='',
                          description='exported .onnx file; default: as in params_file, else the '
                                      'demo model that comes with the package'),
    DeclareLaunchArgument('image_topics', default_value='',
                          description='camera topics with commas between them, raw and '
                                      'compressed in any mix'),
    DeclareLaunchArgument('provider', default_value='',
                          description='auto, cpu, cuda or tensorrt'),
    DeclareLaunchArgument('qos_reliability', default_value='',
                          description='auto, best_effort or reliable'),
    DeclareLaunchArgument('namespace', default_value='imn',
                          description='of the node, its output topics and relative image topics'),
    DeclareLaunchArgument('params_file',
                          default_value=str(SHARE / 'config' / 'perception.yaml'),
                          description='parameters that no argument here names'),
    DeclareLaunchArgument('use_sim_time', default_value='',
                          description='true when a bag or simulator publishes /clock'),
    DeclareLaunchArgument('autostart', default_value='',
                          description='false leaves configuring to a lifecycle manager'),
    DeclareLaunchArgument('log_level', default_value='info',
                          description='debug, info, warn or error; of the node'),
]


def perception(context: LaunchContext) -> list[LifecycleNode]:
    """
    Build the node once the arguments are known.

    :param context: holds the arguments' values.
    :raises UserError: when one of them makes no sense.
    """
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    launching.check_known(context.argv, [argument.name for argument in ARGUMENTS],
                          Path(__file__).name, sys.argv)
    given = {name: read(value(name)) for name, read in OVERRIDES.items() if value(name)}
    return [LifecycleNode(
        package='imn_world_model', executable='perception', name='perception',
        namespace=value('namespace'), output='screen',
        parameters=[ParameterFile(value('params_file'), allow_substs=True), given],
        arguments=launching.log_arguments(value('log_level'), value('namespace'), 'perception'))]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=perception)])
