"""Records ROS topics into a rosbag2 recording, as `ros2 bag record` does, without rosbag2."""
import threading
import time
from pathlib import Path
from types import TracebackType

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from imn_world_model.nodes.player import message_class


class Recorder:
    """
    Writes what comes, until closed; a context manager.

    :param node: that subscribes; spun elsewhere.
    :param path: folder of the recording, must not exist.
    :param topics: full name to type, such as `imn_msgs/msg/Identity`.
    :param definitions: folder of .msg files of the package `imn_msgs`.
    :param qos: of the subscriptions.
    """

    def __init__(self, node: Node, path: Path, topics: dict[str, str], definitions: Path,
                 qos: QoSProfile) -> None:
        self._lock = threading.Lock()
        self.counts = dict.fromkeys(topics, 0)
        store = get_typestore(Stores.ROS2_JAZZY)
        for file in sorted(definitions.glob('*.msg')):
            store.register(get_types_from_msg(file.read_text(), f'imn_msgs/msg/{file.stem}'))
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._subscriptions = [
            self._record(node, topic, kind, store, qos) for topic, kind in topics.items()]
        self._node = node

    def _record(self, node: Node, topic: str, kind: str, store: Typestore,
                qos: QoSProfile) -> Subscription:
        connection = self._writer.add_connection(topic, kind, typestore=store)

        def write(payload: bytes) -> None:
            with self._lock:
                self._writer.write(connection, time.time_ns(), payload)
                self.counts[topic] += 1

        return node.create_subscription(message_class(kind), topic, write, qos, raw=True)

    def __enter__(self) -> 'Recorder':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        with self._lock:
            self._writer.close()
