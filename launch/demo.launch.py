"""
Play a recording into the perception node, filter its answers and show them.

    ros2 launch imn_world_model demo.launch.py              # the log that comes with the package
    ros2 launch imn_world_model demo.launch.py bag:=FOLDER image_topic:=/camera/image_raw

Starts perception.launch.py, the state estimator, a node that prints the answers and this package's
own player, which waits until somebody listens to the recording and needs no rosbag2. All ends when
the recording has ended.
"""
import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from imn_world_model.nodes import launching
from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory('imn_world_model'))
# Seconds for the last answers, once the recording has ended.
LAST_ANSWERS = 1.0
ARGUMENTS = [
    DeclareLaunchArgument('bag', default_value=str(SHARE / 'demo' / 'log'),
                          description='rosbag2 folder with camera images'),
    DeclareLaunchArgument('model', default_value='',
                          description='exported .onnx file; default: the shipped demo model'),
    DeclareLaunchArgument('rate', default_value='1.0',
                          description='1.0 plays at the recorded speed'),
    DeclareLaunchArgument('image_topic', default_value='/camera/image_raw/compressed',
                          description='camera topic of the recording'),
    DeclareLaunchArgument('namespace', default_value='imn',
                          description='of the nodes and their output topics'),
    DeclareLaunchArgument('log_level', default_value='info',
                          description='debug, info, warn or error; of the nodes'),
]


def demo(context: LaunchContext) -> list:
    """
    Put the parts together once the arguments are known.

    :param context: holds the arguments' values.
    :raises UserError: when one of them makes no sense.
    """
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def node(executable: str, **options: object) -> Node:
        return Node(package='imn_world_model', executable=executable, name=executable,
                    namespace=value('namespace'), output='screen', **options,
                    arguments=launching.log_arguments(value('log_level'), value('namespace'),
                                                      executable))

    launching.check_known(context.argv, [argument.name for argument in ARGUMENTS],
                          Path(__file__).name, sys.argv)
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'perception.launch.py')),
            launch_arguments={'model': value('model'), 'image_topics': value('image_topic'),
                              'namespace': value('namespace'),
                              'log_level': value('log_level')}.items()),
        node('state_estimator'),
        node('show'),
        node('play', parameters=[{'bag': str(Path(value('bag')).expanduser().absolute()),
                                  'rate': float(value('rate')),
                                  'listener': value('image_topic')}],
             on_exit=[TimerAction(period=LAST_ANSWERS,
                                  actions=[Shutdown(reason='the recording has ended')])]),
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=demo)])
