"""
The state estimator with a dynamics: commands or odometry carry the state between images.

The state is published at a steady rate for the time of now; images correct it at their own time.
The service `imagine` tells what further actions would lead to.
"""
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from imn_msgs.msg import State, Transform
from imn_msgs.srv import Imagine
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.messages import TransformArrays
from imn_world_model.robot.driven import DrivenTrack, Moved, rate_of
from imn_world_model.robot.world_model import WorldModel

# Value of the parameter motion -> message type and where to find the twist and its stamp.
KINDS: dict[str, tuple[type, str]] = {
    'cmd_vel': (Twist, '/cmd_vel'), 'cmd_vel_stamped': (TwistStamped, '/cmd_vel'),
    'odom': (Odometry, '/odom')}
NONE = 'none'
LOG_PERIOD = 5.0


@dataclass(frozen=True)
class MotionSettings:
    """
    How motion reaches the estimator.

    :param model: path of FILE.onnx with its dynamics beside it.
    :param motion: ``none`` or one of :data:`KINDS`.
    :param motion_topic: empty for the usual one.
    :param publish_rate: states per second.
    :param max_blind: seconds without an image for which the state is still told.
    :raises UserError: for values that make no sense.
    """

    model: str = ''
    motion: str = NONE
    motion_topic: str = ''
    publish_rate: float = 50.0
    max_blind: float = 5.0

    def __post_init__(self) -> None:
        if self.motion not in (NONE, *KINDS):
            raise UserError(f"parameter motion is '{self.motion}'; use one of: "
                            f'{", ".join((NONE, *KINDS))}')
        if self.motion != NONE and not self.model:
            raise UserError(f'parameter motion is {self.motion}, which needs a model with a '
                            'dynamics: set the parameter model to the .onnx file that export '
                            'wrote')
        for name in ('publish_rate', 'max_blind'):
            if not getattr(self, name) > 0:
                raise UserError(f'parameter {name} is {getattr(self, name)}; it must be above 0')


class Motion:
    """
    Carries states by motion and answers what would be.

    :param node: that publishes.
    :param settings: of the motion.
    :param publisher: of states.
    :param label: name of an identity.
    :raises UserError: when the model has no dynamics, or one that is not driven by a twist.
    """

    def __init__(self, node: Node, settings: MotionSettings, publisher: Any, label: Any) -> None:
        self._node, self._settings, self._publisher = node, settings, publisher
        self._label = label
        self._model = WorldModel.load(settings.model, threads=1)
        kind, usual = KINDS[settings.motion]
        self._fields = [name.split('.') for name in self._model.action_names]
        if any(len(path) != 2 or path[0] not in ('linear', 'angular') for path in self._fields):
            raise UserError(f'{settings.model} is driven by '
                            f'{", ".join(self._model.action_names)}, not by a twist; set the '
                            'parameter motion to none')
        self._tracks: dict[str, DrivenTrack] = {}
        self._headers: dict[str, Any] = {}
        self._commands: list[tuple[float, np.ndarray]] = []
        node.create_subscription(kind, settings.motion_topic or usual, self._on_motion, 50)
        node.create_service(Imagine, 'imagine', self._on_imagine)
        node.create_timer(1.0 / settings.publish_rate, self._on_timer)

    def _on_motion(self, message: Any) -> None:
        twist = message
        time = self._now()
        if not isinstance(message, Twist):
            stamp = message.header.stamp
            time = stamp.sec + stamp.nanosec * 1e-9 or time
            twist = message.twist if isinstance(message, TwistStamped) else message.twist.twist
        action = np.array([getattr(getattr(twist, part), axis) for part, axis in self._fields])
        self._commands.append((time, action))
        del self._commands[:-500]
        for track in self._tracks.values():
            try:
                track.command(time, action)
            except UserError as error:
                self._warn(str(error))
                del self._commands[-1]
                return

    def see(self, camera: str, message: Transform, arrays: TransformArrays) -> None:
        """Take in what perception says of an image."""
        if camera not in self._tracks:
            self._tracks[camera] = DrivenTrack(self._model)
            for time, action in self._commands:
                self._tracks[camera].command(time, action)
        stamp = message.header.stamp
        self._tracks[camera].see(stamp.sec + stamp.nanosec * 1e-9, SimpleNamespace(
            identity=np.array([arrays.identity]), active=np.asarray(arrays.active)[None],
            latent_mean=np.asarray(arrays.latent_mean, np.float32)[None],
            latent_variance=np.asarray(arrays.latent_variance, np.float32)[None]))
        self._headers[camera] = message

    def _on_timer(self) -> None:
        now = self._now()
        for camera, track in self._tracks.items():
            stamp = self._headers[camera].header.stamp
            age = now - stamp.sec - stamp.nanosec * 1e-9
            if age > self._settings.max_blind:
                self._warn(f'{camera}: the newest image is {age:.1f} s old; no state is told. Is '
                           'a recording played without use_sim_time?')
                continue
            moved = track.at(now)
            if moved is not None:
                self._publisher.publish(self._state(camera, moved))

    def _state(self, camera: str, moved: Moved) -> State:
        source, state = self._headers[camera], moved.state
        identity = int(state.identity[0])
        message = State(
            identity=identity, label=self._label(identity), mean=state.mean.ravel().tolist(),
            rate=moved.rate.ravel().tolist(), accepted=moved.accepted, updates=moved.updates,
            source_topic=source.source_topic)
        message.header.frame_id = source.header.frame_id
        message.header.stamp = Time(nanoseconds=round(moved.time * 1e9)).to_msg()
        variance = state.variance.ravel().astype(float)
        nothing = np.zeros_like(variance)             # the rate follows from the command
        message.covariance = np.stack((variance, nothing, nothing), 1).ravel().tolist()
        return message

    def _on_imagine(self, request: Imagine.Request, response: Imagine.Response
                    ) -> Imagine.Response:
        response.action_names = list(self._model.action_names)
        response.action_units = list(self._model.action_units)
        try:
            self._imagine(request, response)
            response.success = True
        except UserError as error:
            response.message = str(error)
        return response

    def _imagine(self, request: Imagine.Request, response: Imagine.Response) -> None:
        actions, width = np.asarray(request.actions), len(self._model.action_names)
        if len(actions) % width or not np.isfinite(actions).all():
            raise UserError(f'actions holds {len(actions)} numbers; it must be whole rows of '
                            f'{width} finite ones ({", ".join(self._model.action_names)})')
        if not len(actions):
            return
        if not 0 < request.seconds < 60:
            raise UserError(f'seconds is {request.seconds}; an action may be held for up to a '
                            'minute')
        cameras = [camera for camera in self._tracks
                   if request.source_topic in ('', camera)]
        if len(cameras) != 1:
            raise UserError(f"source_topic is '{request.source_topic}'; there are states of: "
                            f'{", ".join(self._tracks) or "no camera yet"}')
        moved = self._tracks[cameras[0]].at(self._now())
        assert moved is not None
        rows = actions.reshape(-1, width)
        imagined = self._model.imagine(moved.state, rows, request.seconds, request.pictures)
        for k, action in enumerate(rows):
            state = replace(moved.state, mean=imagined.mean[:, k],
                            variance=imagined.variance[:, k])
            response.states.append(self._state(cameras[0], replace(
                moved, state=state, rate=rate_of(self._model, state, action),
                time=moved.time + (k + 1) * request.seconds)))
            if imagined.picture is not None:
                picture = imagined.picture[0, k]
                response.pictures.append(Image(
                    header=response.states[-1].header, height=picture.shape[0],
                    width=picture.shape[1], encoding='rgb8', step=3 * picture.shape[1],
                    data=picture.tobytes()))

    def _now(self) -> float:
        return float(self._node.get_clock().now().nanoseconds) * 1e-9

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=LOG_PERIOD)
