"""
Play a recording into the perception node and filter its answers.

    ros2 launch imn_world_model demo.launch.py bag:=FOLDER

Starts perception.launch.py, the state estimator and this package's own player, which waits until
somebody listens to the recording and needs no rosbag2.
"""
from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = get_package_share_directory('imn_world_model')


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and put the three parts together."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='rosbag2 folder with camera images'),
        DeclareLaunchArgument('model', default_value='',
                              description='exported .onnx file; default: the shipped demo model'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='1.0 plays at the recorded speed'),
        DeclareLaunchArgument('image_topic', default_value='/camera/image_raw/compressed',
                              description='camera topic of the recording'),
        DeclareLaunchArgument('namespace', default_value='imn',
                              description='of the nodes and their output topics'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn or error'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(f'{SHARE}/launch/perception.launch.py'),
            launch_arguments={
                'model': LaunchConfiguration('model'),
                'image_topics': ['[', LaunchConfiguration('image_topic'), ']'],
                'namespace': LaunchConfiguration('namespace'),
                'log_level': LaunchConfiguration('log_level'),
            }.items()),
        Node(package='imn_world_model', executable='state_estimator', name='state_estimator',
             namespace=LaunchConfiguration('namespace'), output='screen',
             arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')]),
        Node(package='imn_world_model', executable='play', name='play', output='screen',
             parameters=[{
                 'bag': ParameterValue(LaunchConfiguration('bag'), value_type=str),
                 'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float),
                 'listener': ParameterValue(LaunchConfiguration('image_topic'), value_type=str),
             }]),
    ])
