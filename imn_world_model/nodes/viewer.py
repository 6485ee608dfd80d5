"""
Prints what perception answers, a line for each image.

    ros2 run imn_world_model show

Subscribes to `identity` in its namespace.
"""
import sys
from typing import Any

from imn_msgs.msg import Identity
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from imn_world_model.nodes.running import run_until_stopped


class ViewerNode(Node):
    """
    The node.

    :param options: passed on to rclpy's Node, for composition with other nodes in one process.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('show', **{'namespace': 'imn', **options})
        self.create_subscription(Identity, 'identity', self._on_identity, 100)

    def _on_identity(self, message: Identity) -> None:
        print(f'{message.source_topic}  identity {message.identity}  {message.label:<12} '
              f'confidence {message.confidence:4.2f}{"  novel" if message.novel else ""}',
              flush=True)


def main(arguments: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param arguments: command line, ROS arguments included.
    :return: exit code.
    """
    return run_until_stopped(ViewerNode, SingleThreadedExecutor, arguments)


if __name__ == '__main__':
    sys.exit(main())
