"""
The part of ROS 2's `launch` that this project's launch files use; PyPI does not have the real one.

Starts real processes. `tests/run_launch.py` prefers the real `launch` where there is one.
"""
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

# Seconds that processes get to end before they are killed, as in the real one.
PATIENCE = 5.0


class LaunchContext:
    """
    What a launch file's parts know of each other.

    :param argv: `name:=value` words of the command line.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.configurations: dict[str, str] = {}
        self.running: list[tuple[subprocess.Popen, list[Any]]] = []
        self.later: list[tuple[float, list[Any]]] = []
        self.stopping = False

    def visit(self, entities: Sequence[Any]) -> None:
        """
        Carry out entities and what they lead to.

        :param entities: each with a method `visit`, which returns further ones or None.
        """
        for entity in entities:
            self.visit(entity.visit(self) or [])


class LaunchDescription:
    """
    A list of entities.

    :param entities: of the launch file.
    """

    def __init__(self, entities: Sequence[Any]) -> None:
        self.entities = list(entities)

    def visit(self, context: LaunchContext) -> list[Any]:
        """
        Hand on what it holds.

        :param context: not used.
        """
        return self.entities


class LaunchService:
    """
    Runs a description until all its processes have ended or a signal ends them.

    :param argv: `name:=value` words of the command line.
    :param noninteractive: not used.
    """

    def __init__(self, *, argv: Sequence[str], noninteractive: bool = False) -> None:
        self._context = LaunchContext(argv)
        self._descriptions: list[Any] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self._context.stopping = True

    def include_launch_description(self, description: LaunchDescription) -> None:
        """
        Add what to run.

        :param description: the launch file.
        """
        self._descriptions.append(description)

    def run(self) -> int:
        """Run; the exit code is 1 when the launch file raised."""
        context, code = self._context, 0
        try:
            context.visit(self._descriptions)
            while (context.running or context.later) and not context.stopping:
                self._look_around()
                time.sleep(0.02)
        # Whatever a launch file raises, as in the real one.
        except Exception as error:
            print(f'[ERROR] [launch]: Caught exception in launch: {error}', file=sys.stderr)
            code = 1
        for process, _ in context.running:
            process.send_signal(signal.SIGINT)
        for process, _ in context.running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        return code

    def _look_around(self) -> None:
        context = self._context
        for process, on_exit in list(context.running):
            if process.poll() is not None:
                context.running.remove((process, on_exit))
                context.visit(on_exit)
        for due, actions in list(context.later):
            if time.monotonic() >= due:
                context.later.remove((due, actions))
                context.visit(actions)
