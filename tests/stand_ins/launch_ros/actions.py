"""Stand-in, see launch/__init__.py."""
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_prefix

from launch import LaunchContext
from launch_ros.parameter_descriptions import ParameterFile


class Node:
    """
    A node's process; its command line is that of the real one.

    :param package: that has the executable, looked for where colcon installs it.
    :param executable: name of the file.
    :param name: of the node.
    :param namespace: of the node.
    :param output: not used.
    :param parameters: parameter files and dictionaries; later ones win.
    :param arguments: of the executable.
    :param on_exit: actions once it has ended.
    """

    def __init__(self, *, package: str, executable: str, name: str, namespace: str, output: str,
                 parameters: Sequence[ParameterFile | dict[str, Any]] = (),
                 arguments: Sequence[str] = (), on_exit: Sequence[Any] = ()) -> None:
        self._program = Path(get_package_prefix(package), 'lib', package, executable)
        self._words = [*arguments, '--ros-args', '-r', f'__node:={name}', '-r',
                       f'__ns:=/{namespace.lstrip("/")}']
        self._parameters, self._on_exit = parameters, list(on_exit)

    def visit(self, context: LaunchContext) -> None:
        """
        Start the process.

        :param context: that looks after it.
        """
        words = [str(self._program), *self._words]
        for item in self._parameters:
            path = item.path if isinstance(item, ParameterFile) else _written(item)
            words += ['--params-file', path] if path else []
        context.running.append((subprocess.Popen(words), self._on_exit))


LifecycleNode = Node


def _written(values: dict[str, Any]) -> str:
    """:return: path of a parameters file with these values; empty if there are none."""
    if not values:
        return ''
    with tempfile.NamedTemporaryFile('w', prefix='launch_params_', delete=False) as file:
        yaml.safe_dump({'/**': {'ros__parameters': values}}, file)
    return file.name
