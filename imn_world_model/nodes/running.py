"""From the start of a node's process to its end, whichever signal brings it."""
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.worker import one_line

# Seconds after which an executor with nothing to do sees that it should end.
LOOK_UP_PERIOD = 0.1
# Seconds that a node gets to end in order; launch and people wait little longer.
GRACE = 0.8
# What a wrong command line, parameters file or parameter leads to.
MISTAKES = (UserError, ParameterException, rclpy_implementation.RCLError,
            rclpy_implementation.RCLInvalidROSArgsError, rclpy_implementation.UnknownROSArgsError)


class Spinner:
    """
    Spins an executor in a thread of its own, and ends it without a race.

    rclpy's executors bear neither a shutdown in the midst of a spin (ros2/rclpy#968) nor that
    something they wait for is destroyed meanwhile (ros2/rclpy#1206).

    :param executor: with its nodes; `close` shuts it down.
    :param stopped: set by whoever wants the spinning to end, and when it ended by itself.
    """

    def __init__(self, executor: Executor, stopped: threading.Event | None = None) -> None:
        self.stopped = threading.Event() if stopped is None else stopped
        self.failure: Exception | None = None
        self._executor = executor
        self._thread = threading.Thread(target=self._spin, name='executor', daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            while not self.stopped.is_set():
                with contextlib.suppress(rclpy_implementation.InvalidHandle):
                    self._executor.spin_once(timeout_sec=LOOK_UP_PERIOD)
        except ExternalShutdownException:
            pass  # somebody shut ROS down: an end like any other
        except Exception as error:
            self.failure = error
        finally:
            self.stopped.set()

    def close(self) -> None:
        """End the thread and the callbacks that still run; nodes may be destroyed afterwards."""
        self.stopped.set()
        self._thread.join()
        # shutdown() takes away what callbacks in the threads of a MultiThreadedExecutor still
        # use, and in Jazzy does not wait for them.
        pool = getattr(self._executor, '_executor', None)
        if pool is not None:
            pool.shutdown(wait=True)
        self._executor.shutdown(timeout_sec=0)


def stop_on_signals() -> threading.Event:
    """
    Turn SIGINT and SIGTERM into an event.

    Ctrl-C in a terminal reaches a launched node twice, directly and through launch. rclpy's own
    handlers would let the second one break into the clean-up, and any handler of Python's would
    let it kill an interpreter that is just ending; so the second one is ignored.

    :return: set by the first signal.
    """
    stopped = threading.Event()

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def run_until_stopped(make: Callable[[], Node], executor: Callable[[], Executor],
                      arguments: list[str] | None) -> int:
    """
    Spin a node until a signal or a shutdown ends it, then take it down in order.

    :param make: builds the node, once ROS is up.
    :param executor: builds what spins it.
    :param arguments: command line, ROS arguments included.
    :return: exit code: 0, or 2 after a mistake of the user's, which is printed.
    """
    stopped = stop_on_signals()
    late = threading.Timer(GRACE, cut_off)
    late.daemon = True
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
    except MISTAKES as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        spun = executor()
        spun.add_node(node)
        spinner = Spinner(spun, stopped)
        stopped.wait()
        late.start()
        spinner.close()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
        late.cancel()
    if spinner.failure is not None:
        raise spinner.failure
    return 0


def cut_off() -> None:
    """End the process at once: some work, such as loading a model, cannot be interrupted."""
    print(f'the node was busy for {GRACE} s after it was told to end; cut off', file=sys.stderr,
          flush=True)
    os._exit(0)
