"""
Runs a launch file the way `ros2 launch PACKAGE FILE name:=value ...` does.

    python tests/run_launch.py SHARE/launch/demo.launch.py rate:=8

With the real `launch` where it is installed, else with the stand-in beside this file.
"""
import sys
from pathlib import Path

# Last, so that a real one is found first.
sys.path.append(str(Path(__file__).resolve().parent / 'stand_ins'))

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

from launch import LaunchDescription, LaunchService  # noqa: E402

if __name__ == '__main__':
    path, *words = sys.argv[1:]
    service = LaunchService(argv=words, noninteractive=True)
    service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path),
        launch_arguments=[tuple(word.split(':=', 1)) for word in words])]))
    sys.exit(service.run())
