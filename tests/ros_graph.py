"""Talks to nodes under test from outside: processes, publishers, subscribers, service calls."""
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from imn_world_model.nodes.running import Spinner

ROOT = Path(__file__).resolve().parent.parent
RELIABLE = QoSProfile(depth=200, reliability=QoSReliabilityPolicy.RELIABLE)
# Two slow cores with other work on them; nothing waits this long when it works.
PATIENCE = 120.0
# An answer that takes longer than this was lost on the way; the question is asked again.
ANSWER_TIMEOUT = 3.0


class NodeProcess:
    """
    A node started the way launch does it.

    :param module: to run with `python -m`.
    :param log: file for its output.
    :param parameters: given as `-p name:=value`.
    :param arguments: further ROS arguments, such as `-r __ns:=/robot`.
    """

    def __init__(self, module: str, log: Path, parameters: dict[str, Any] | None = None,
                 arguments: tuple[str, ...] = ()) -> None:
        words = [sys.executable, '-m', module, '--ros-args']
        for name, value in (parameters or {}).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += ['-p', f'{name}:={text}']
        self._log = log
        with open(log, 'wb') as output:
            self.process = subprocess.Popen([*words, *arguments], cwd=ROOT, stdout=output,
                                            stderr=subprocess.STDOUT,
                                            env={**os.environ, 'OMP_NUM_THREADS': '1'})

    def output(self) -> str:
        """Return what it has printed so far."""
        return self._log.read_text(errors='replace')

    def wait_for_output(self, text: str) -> None:
        """
        Wait until it has printed a text.

        :param text: looked for.
        """
        wait_until(lambda: text in self.output() or self.process.poll() is not None,
                   f'{text!r} in the output')
        assert text in self.output(), self.output()

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """
        End it by a signal.

        :param number: of the signal.
        :return: exit code, seconds that it took.
        """
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, time.monotonic() - started


class Collector(list):
    """
    Messages in the order of their arrival.

    :param topic: for error messages.
    """

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic

    def frames(self) -> list[str]:
        """Return the frame_id of every message, by which tests tell images apart."""
        return [message.header.frame_id for message in self]

    def wait_for_frame(self, frame: str) -> Any:
        """
        Wait for the message about one image.

        :param frame: its frame_id.
        """
        wait_until(lambda: frame in self.frames(), f'{frame!r} on {self.topic}')
        return self[self.frames().index(frame)]


def ask(publisher: Any, collectors: list[Collector], make: Callable[[str], Any],
        name: str) -> list[Any]:
    """
    Publish an image again until all have its answer: each side finds the other at its own pace.

    Once this has returned, nothing is on its way any more, and single images get their answers.

    :param publisher: of the image.
    :param collectors: for the answers.
    :param make: from a frame_id to the image.
    :param name: the frame_ids begin with it.
    :return: the answer in each of the collectors.
    """
    deadline = time.monotonic() + PATIENCE
    for count in itertools.count():
        frame = f'{name}#{count}'
        publisher.publish(make(frame))
        patience = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < patience:
            if all(frame in collector.frames() for collector in collectors):
                return [collector.wait_for_frame(frame) for collector in collectors]
            time.sleep(0.005)
        if time.monotonic() > deadline:
            break
    raise AssertionError(f'no answer to {name} on {[each.topic for each in collectors]}')


class Graph:
    """The tests' own node, spun in a thread."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        self.context.init()
        self.node = rclpy.create_node('tests', context=self.context)
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self.node)
        self._spinner = Spinner(executor)

    def close(self) -> None:
        """Leave the domain."""
        self._spinner.close()
        self.node.destroy_node()
        self.context.shutdown()
        assert self._spinner.failure is None, self._spinner.failure

    def collect(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> Collector:
        """
        Subscribe and keep what comes.

        :param kind: message class.
        :param topic: full name.
        :param qos: of the subscription.
        """
        collector = Collector(topic)
        self.node.create_subscription(kind, topic, collector.append, qos)
        return collector

    def publisher(self, kind: type, topic: str, qos: QoSProfile = RELIABLE,
                  subscribers: int = 1) -> Any:
        """
        Create a publisher and wait until it is heard.

        :param kind: message class.
        :param topic: full name.
        :param qos: of the publisher.
        :param subscribers: to wait for.
        """
        publisher = self.node.create_publisher(kind, topic, qos)
        wait_until(lambda: publisher.get_subscription_count() >= subscribers,
                   f'{subscribers} subscribers on {topic}')
        return publisher

    def call(self, kind: type, name: str, request: Any, node: str = '') -> Any:
        """
        Call a service.

        :param kind: service class.
        :param name: full name.
        :param request: what to ask.
        :param node: full name of the node that offers it; empty where it is in the service's.
        """
        client = self.node.create_client(kind, name)
        probe = self.node.create_client(GetParameters,
                                        f'{node or name.rpartition("/")[0]}/get_parameters')
        try:
            for each in (client, probe):
                assert each.wait_for_service(PATIENCE), f'no service {each.srv_name}'
            # Until the other side has found a client, its answers to it get lost. Clients are
            # found in the order of their creation, so once the probe has an answer, `client`
            # will get one, too.
            answers: list[Any] = []

            def probed() -> bool:
                answers.append(probe.call_async(GetParameters.Request()))
                deadline = time.monotonic() + ANSWER_TIMEOUT
                while not any(each.done() for each in answers):
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.005)
                return True

            wait_until(probed, f'an answer of {probe.srv_name}')
            future = client.call_async(request)
            wait_until(future.done, f'an answer of {name}')
            return future.result()
        finally:
            for each in (client, probe):
                self.node.destroy_client(each)

    def set_parameter(self, node: str, name: str, value: Any) -> Any:
        """
        Set a parameter of another node.

        :param node: full name.
        :param name: of the parameter.
        :param value: new value.
        :return: SetParametersResult.
        """
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f'{node}/set_parameters', request).results[0]


class Diagnostics:
    """
    The newest status of everything on /diagnostics.

    :param graph: to listen with.
    """

    def __init__(self, graph: Graph) -> None:
        self.statuses: dict[str, DiagnosticStatus] = {}
        graph.node.create_subscription(DiagnosticArray, '/diagnostics', self._receive, 10)

    def _receive(self, message: DiagnosticArray) -> None:
        self.statuses.update({status.name: status for status in message.status})

    def values(self, name: str) -> dict[str, str]:
        """
        Return a status' key-value pairs; empty if there is no such status.

        :param name: of the status.
        """
        status = self.statuses.get(name)
        return {pair.key: pair.value for pair in status.values} if status else {}

    def wait(self, name: str, condition: Callable[[DiagnosticStatus, dict[str, str]], bool],
             what: str) -> DiagnosticStatus:
        """
        Wait for a status that fulfils a condition.

        :param name: of the status.
        :param condition: on the status and its values.
        :param what: the condition in words.
        """
        wait_until(lambda: name in self.statuses
                   and condition(self.statuses[name], self.values(name)),
                   lambda: f'{what} in {name}; there is {self.statuses.get(name)}')
        return self.statuses[name]


def slowdown() -> float:
    """
    Tell how much longer work takes here than on a machine with nothing else to do.

    Limits on times are multiplied by it; it is 1 on a quiet machine.
    """
    started, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.1:
        pass
    return max(1.0, (time.monotonic() - started) / 0.1)


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str],
               patience: float = PATIENCE) -> None:
    """
    Wait for a condition.

    :param condition: looked at every few milliseconds.
    :param what: it means, for the error message.
    :param patience: seconds after which the test fails.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f'waited {patience:.0f} s in vain for {text}')
        time.sleep(0.005)
