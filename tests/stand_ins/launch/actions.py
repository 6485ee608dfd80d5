"""Stand-in, see launch/__init__.py."""
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource


class DeclareLaunchArgument:
    """
    An argument of the launch file.

    :param name: of the argument.
    :param default_value: when it is not given.
    :param description: for people.
    """

    def __init__(self, name: str, *, default_value: str, description: str) -> None:
        self.name, self.default_value, self.description = name, default_value, description

    def visit(self, context: LaunchContext) -> None:
        """
        Set the default.

        :param context: that gets it.
        """
        context.configurations.setdefault(self.name, self.default_value)


class IncludeLaunchDescription:
    """
    Another launch file in place of this.

    :param source: the file.
    :param launch_arguments: its arguments.
    """

    def __init__(self, source: PythonLaunchDescriptionSource, *,
                 launch_arguments: Iterable[tuple[str, str]] = ()) -> None:
        self._source, self._arguments = source, tuple(launch_arguments)

    def visit(self, context: LaunchContext) -> list[Any]:
        """
        Set the arguments; they stay set, as in the real one.

        :param context: that gets them.
        """
        context.configurations.update(self._arguments)
        return [self._source.load()]


class OpaqueFunction:
    """
    Entities that a function makes once the arguments are known.

    :param function: takes the context.
    """

    def __init__(self, *, function: Callable[[LaunchContext], list[Any]]) -> None:
        self._function = function

    def visit(self, context: LaunchContext) -> list[Any]:
        """
        Call the function.

        :param context: handed to it.
        """
        return self._function(context)


class TimerAction:
    """
    Actions a little later.

    :param period: in seconds.
    :param actions: to carry out then.
    """

    def __init__(self, *, period: float, actions: Sequence[Any]) -> None:
        self._period, self._actions = period, list(actions)

    def visit(self, context: LaunchContext) -> None:
        """
        Set the timer.

        :param context: that keeps it.
        """
        context.later.append((time.monotonic() + self._period, self._actions))


class Shutdown:
    """
    The end of all processes.

    :param reason: for people.
    """

    def __init__(self, *, reason: str) -> None:
        self._reason = reason

    def visit(self, context: LaunchContext) -> None:
        """
        Begin the end.

        :param context: that ends.
        """
        context.stopping = True
