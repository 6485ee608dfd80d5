"""
State estimation on top of perception: filters the Lie-algebra coordinates of what is seen.

    ros2 run imn_world_model state_estimator

Subscribes to `identity` and `transform`, publishes `state` (imn_msgs/State), all in its namespace;
each camera, told apart by source_topic (frame_id where that is empty), is filtered by itself.
With several objects in a picture, `objects` is followed, too: a state for each track, which tells
its number, on `object_states`.

    ros2 run imn_world_model state_estimator --ros-args -p motion:=cmd_vel -p model:=model.onnx

With motion, commands or odometry carry the state: it is published 50 times a second for the time
of now, images correct it, and the service `imagine` (imn_msgs/srv/Imagine) tells what further
actions would lead to. The model is the one that perception runs, with its dynamics beside it.
"""
import sys
from dataclasses import fields
from typing import Any

from imn_msgs.msg import Identity, ObjectArray, State, Transform
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.messages import transform_to_arrays
from imn_world_model.nodes.motion import KINDS, NONE, Motion, MotionSettings
from imn_world_model.nodes.object_states import ObjectStates
from imn_world_model.nodes.parameters import declare_one, name_unknown
from imn_world_model.nodes.running import run_until_stopped
from imn_world_model.robot.tracking import Track, TrackingOptions

DESCRIPTIONS = {
    'acceleration': 'Standard deviation of the unmodelled acceleration of a coordinate, 1/s^2.',
    'initial_rate': 'Standard deviation of the rate of a coordinate at the start, 1/s.',
    'variance_scale': 'Factor on the variances that perception publishes.',
    'gate': 'Probability with which a measurement that fits passes the outlier gate.',
    'patience': 'Outliers or foreign identities in a row after which the filter starts anew.',
    'max_gap': 'Seconds without a measurement after which the filter starts anew.',
}
MOTION_DESCRIPTIONS = {
    'model': 'Path of an exported .onnx file with its dynamics beside it; for motion.',
    'motion': f'What tells how the robot moves: {", ".join((NONE, *KINDS))}. With none, '
              'coordinates move at constant velocity.',
    'motion_topic': 'Its topic; empty for /cmd_vel or /odom.',
    'publish_rate': 'States per second, with motion.',
    'max_blind': 'Seconds without an image for which a state is still told, with motion.',
}
LOG_PERIOD = 5.0


class EstimatorNode(Node):
    """
    The node.

    :param options: passed on to rclpy's Node, for composition with other nodes in one process.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('state_estimator', **{'namespace': 'imn', **options})
        self._options = TrackingOptions(**{
            field.name: declare_one(self, field.name, field.default, DESCRIPTIONS[field.name],
                                    read_only=True) for field in fields(TrackingOptions)})
        motion = MotionSettings(**{
            field.name: declare_one(self, field.name, field.default,
                                    MOTION_DESCRIPTIONS[field.name], read_only=True)
            for field in fields(MotionSettings)})
        name_unknown(self, [*DESCRIPTIONS, *MOTION_DESCRIPTIONS])
        self._tracks: dict[str, Track] = {}
        self._labels: dict[int, str] = {}
        self._publisher = self.create_publisher(State, 'state', 10)
        self._motion = None if motion.motion == NONE else Motion(
            self, motion, self._publisher, lambda identity: self._labels.get(identity, ''))
        self.create_subscription(Identity, 'identity', self._on_identity, 10)
        self.create_subscription(Transform, 'transform', self._on_transform, 10)
        states = ObjectStates(self._options, self.create_publisher(
            State, 'object_states', 100).publish, self._warn)
        self.create_subscription(ObjectArray, 'objects', states.see, 10)

    def _on_identity(self, message: Identity) -> None:
        self._labels[message.identity] = message.label

    def _on_transform(self, message: Transform) -> None:
        camera = message.source_topic or message.header.frame_id
        track = self._tracks.setdefault(camera, Track(self._options))
        stamp = message.header.stamp
        try:
            arrays = transform_to_arrays(message)
            if self._motion is not None:
                self._motion.see(camera, message, arrays)
                return
            estimate = track.update(stamp.sec + stamp.nanosec * 1e-9, arrays.identity,
                                    arrays.latent_mean.ravel(), arrays.latent_variance.ravel())
        except UserError as error:
            self._warn(f'{camera}: {error}')
            return
        self._publisher.publish(State(
            header=message.header, identity=estimate.identity,
            label=self._labels.get(estimate.identity, ''), mean=estimate.mean.tolist(),
            rate=estimate.rate.tolist(), covariance=estimate.covariance.ravel().tolist(),
            accepted=estimate.accepted, updates=estimate.updates,
            source_topic=message.source_topic))

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=LOG_PERIOD)


def main(arguments: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param arguments: command line, ROS arguments included.
    :return: exit code.
    """
    return run_until_stopped(EstimatorNode, SingleThreadedExecutor, arguments)


if __name__ == '__main__':
    sys.exit(main())
