"""
How long the perception node's parameter service takes to answer.

In a process of its own: one that publishes and counts hundreds of images a second beside it would
be measured along with the node.

    python -m imn_world_model.bench.services 60        seconds of 60 answers, as JSON
"""
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError

SERVICE = '/imn/perception/get_parameters'
PERIOD = 0.05
DISCOVERY = 60.0
FIRST_ANSWER, FIRST_TRIES = 5.0, 12
PATIENCE = 30.0


def ask(count: int) -> list[float]:
    """
    Ask the node for a parameter again and again.

    :param count: number of answers.
    :return: seconds that each took.
    :raises UserError: when the node does not answer.
    """
    import rclpy
    from rcl_interfaces.srv import GetParameters
    from rclpy.executors import SingleThreadedExecutor

    from imn_world_model.nodes.running import Spinner
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init()
    node = rclpy.create_node('bench_services')
    client = node.create_client(GetParameters, SERVICE)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = Spinner(executor)
    try:
        if not client.wait_for_service(DISCOVERY):
            raise UserError(f'nobody offers {SERVICE}; is the perception node up?')
        request = GetParameters.Request(names=['model'])
        # The first answer is lost when the node does not know yet who asks.
        if not any(_seconds(client, request, FIRST_ANSWER) for _ in range(FIRST_TRIES)):
            raise UserError(f'{SERVICE} gave no answer in {FIRST_TRIES * FIRST_ANSWER:.0f} s')
        times = []
        for _ in range(count):
            seconds = _seconds(client, request, PATIENCE)
            if seconds is None:
                raise UserError(f'{SERVICE} gave no answer in {PATIENCE:.0f} s')
            times.append(seconds)
    finally:
        spinner.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return times


def _seconds(client: Any, request: Any, patience: float) -> float | None:
    """:return: what one answer took, or ``None`` when it did not come."""
    started = time.monotonic()
    done = threading.Event()
    client.call_async(request).add_done_callback(lambda _: done.set())
    if not done.wait(patience):
        return None
    seconds = time.monotonic() - started
    time.sleep(PERIOD)
    return seconds


@contextmanager
def asking(count: int) -> Iterator[list[float]]:
    """
    Ask in another process while the block runs.

    :param count: number of answers.
    :return: a list that holds the seconds of each when the block has ended.
    :raises UserError: when the node does not answer.
    """
    seconds: list[float] = []
    process = subprocess.Popen([sys.executable, '-m', __name__, str(count)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield seconds
        output, errors = process.communicate(timeout=2 * DISCOVERY + PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise UserError('the parameter service could not be measured in time') from error
    finally:
        process.kill()                                # does nothing to one that has ended
        process.wait()
    if process.returncode:
        raise UserError(f'the parameter service could not be measured: {errors.strip()[-300:]}')
    seconds += json.loads(output)


def main(arguments: list[str] | None = None) -> None:
    """Print the seconds of as many answers as the first argument says."""
    count, = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(ask(int(count))))


if __name__ == '__main__':
    run_cli(main)
