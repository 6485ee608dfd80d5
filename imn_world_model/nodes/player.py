"""
Plays a rosbag2 recording into real ROS topics, as `ros2 bag play` does, without rosbag2.

    ros2 run imn_world_model play --ros-args -p bag:=FOLDER -p listener:=/camera/image_raw

Waits until somebody subscribes to the topic `listener`, so that no image is played to nobody.
"""
import importlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import Reader, ReaderError

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.parameters import declare_one, name_unknown
from imn_world_model.nodes.running import LOOK_UP_PERIOD, MISTAKES, stop_on_signals
from imn_world_model.nodes.worker import one_line


@dataclass(frozen=True)
class Played:
    """
    One message that was just published.

    :param topic: it went to.
    :param payload: serialized (CDR).
    :param stamp: of the recording, in nanoseconds.
    :param published: time.monotonic() just before publication.
    """

    topic: str
    payload: bytes
    stamp: int
    published: float


def message_class(name: str) -> type:
    """
    Import a message class.

    :param name: such as `sensor_msgs/msg/Image`.
    :raises UserError: when it is not installed.
    """
    package, _, kind = name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError) as error:
        raise UserError(f'message type {name} is not installed; install package {package} or '
                        'leave its topic out') from error


class Player:
    """
    Publishers for every topic of a recording.

    :param node: that publishes.
    :param path: folder of a rosbag2 recording.
    :param qos: of the publishers.
    :raises UserError: when there is no readable recording, or it has unknown message types.
    """

    def __init__(self, node: Node, path: Path, qos: QoSProfile) -> None:
        self._path = path
        try:
            with Reader(path) as reader:
                types = {item.topic: item.msgtype for item in reader.connections}
                self.duration = reader.duration / 1e9
        except (ReaderError, OSError) as error:
            raise UserError(f'{path} is no readable rosbag2 recording: {error}') from error
        self.publishers: dict[str, Any] = {
            topic: node.create_publisher(message_class(kind), topic, qos)
            for topic, kind in types.items()}

    def play(self, rate: float, longest_gap: float,
             stopped: threading.Event | None = None) -> Iterator[Played]:
        """
        Publish the recording in its own rhythm.

        :param rate: 1 for the recorded speed, 2 for twice as fast.
        :param longest_gap: pauses of the recording are cut to this many seconds.
        :param stopped: ends the play early once it is set.
        :return: each message once it is published.
        """
        stopped = stopped or threading.Event()
        due, before = time.monotonic(), None
        with Reader(self._path) as reader:
            for connection, stamp, payload in reader.messages():
                if before is not None:
                    due += min((stamp - before) / 1e9 / rate, longest_gap)
                before = stamp
                if stopped.wait(max(0.0, due - time.monotonic())):
                    return
                published = time.monotonic()
                self.publishers[connection.topic].publish(bytes(payload))
                yield Played(connection.topic, bytes(payload), stamp, published)


def main(arguments: list[str] | None = None) -> int:
    """
    Play one recording and end.

    :param arguments: command line, ROS arguments included.
    :return: exit code.
    """
    stopped = stop_on_signals()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        play_until_stopped(rclpy.create_node('play'), stopped)
    except MISTAKES as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


def play_until_stopped(node: Node, stopped: threading.Event) -> None:
    """
    Play what the node's parameters name.

    :param node: that publishes.
    :param stopped: ends the play early once it is set.
    :raises UserError: when a parameter makes no sense.
    """
    bag, rate, listener = (
        declare_one(node, name, default, text)
        for name, default, text in (
            ('bag', '', 'Folder of a rosbag2 recording.'),
            ('rate', 1.0, '1 plays at the recorded speed.'),
            ('listener', '', 'Topic of the recording whose first subscriber starts the play.')))
    name_unknown(node, ('bag', 'rate', 'listener'))
    player = Player(node, Path(bag), QoSProfile(depth=10))
    if rate <= 0:
        raise UserError(f'parameter rate is {rate}; it must be above 0')
    if listener and listener not in player.publishers:
        raise UserError(f'{bag} has no topic {listener}; it has {", ".join(player.publishers)}')
    if listener:
        node.get_logger().info(f'waiting for a subscriber to {listener}')
        while not player.publishers[listener].get_subscription_count():
            if stopped.wait(LOOK_UP_PERIOD):
                return
    count = sum(1 for _ in player.play(rate, float('inf'), stopped))
    if not stopped.is_set():
        node.get_logger().info(f'played {count} messages')


if __name__ == '__main__':
    sys.exit(main())
