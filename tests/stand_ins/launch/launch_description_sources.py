"""Stand-in, see launch/__init__.py."""
from runpy import run_path

from launch import LaunchDescription


class PythonLaunchDescriptionSource:
    """
    A launch file in Python.

    :param path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> LaunchDescription:
        """Run the file and take its description."""
        return run_path(self._path)['generate_launch_description']()
