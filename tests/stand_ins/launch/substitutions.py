"""Stand-in, see launch/__init__.py."""
from launch import LaunchContext


class LaunchConfiguration:
    """
    The value of an argument.

    :param name: of the argument.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def perform(self, context: LaunchContext) -> str:
        """
        Look the value up.

        :param context: that has it.
        :raises KeyError: when there is no such argument.
        """
        return context.configurations[self._name]
