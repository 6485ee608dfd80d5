"""From the start of a node's process to its end, whichever signal brings it."""
import signal
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

# Seconds after which a node with nothing to do sees that it should end.
LOOK_UP_PERIOD = 0.2


def run_until_stopped(make: Callable[[], Node], executor: Callable[[], Executor],
                      arguments: list[str] | None) -> int:
    """
    Spin a node until a signal or a shutdown ends it, then take it down in order.

    Ctrl-C in a terminal reaches a launched node twice, directly and through launch. rclpy's own
    handlers would let the second one break into the clean-up, so the process has its own.

    :param make: builds the node, once ROS is up.
    :param executor: builds what spins it.
    :param arguments: command line, ROS arguments included.
    :return: exit code 0.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
        spinner = executor()
        spinner.add_node(node)
        failures: list[Exception] = []

        def spin() -> None:
            try:
                # To be shut down in the midst of a spin is more than executors bear.
                while not stopped.is_set():
                    spinner.spin_once(timeout_sec=LOOK_UP_PERIOD)
            except ExternalShutdownException:
                pass  # somebody shut ROS down: an end like any other
            except Exception as error:
                failures.append(error)
            finally:
                stopped.set()

        thread = threading.Thread(target=spin, name='executor', daemon=True)
        thread.start()
        stopped.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        thread.join()
        node.destroy_node()
        spinner.shutdown(timeout_sec=0.5)
    finally:
        rclpy.try_shutdown()
    if failures:
        raise failures[0]
    return 0
