"""Poses in metres: from the camera's calibration, and from the map that calibrate learnt."""
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_profile_sensor_data,
)
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from imn_world_model.base.errors import UserError
from imn_world_model.data.poses import info_topic
from imn_world_model.data.transforms import Transforms
from imn_world_model.nodes.worker import Frame
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.robot.poses import Pose, PoseMap, bearing
from imn_world_model.robot.steady import Steady
from imn_world_model.vision.following import Followed
from imn_world_model.vision.pinhole import Pinhole
from imn_world_model.vision.sight import look

try:
    from tf2_msgs.msg import TFMessage
except ImportError:                                   # not among PyPI's wheels
    TFMessage = None

LOG_PERIOD = 10.0
# Seconds after which a track that was not seen is forgotten.
FORGOTTEN = 5.0
STATIC = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE,
                    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class Poses:
    """
    Publishes `bearing` and `pose` of the largest object, and tells poses of all.

    :param node: that publishes.
    :param topics: full names of the camera topics.
    :param infos: of their sensor_msgs/CameraInfo; an empty one is the image's neighbour.
    :param fixed: frame in which poses are told; empty for the camera's own.
    :param create: makes a publisher of a type, a topic and a QoS.
    :param qos: of the publishers.
    """

    def __init__(self, node: LifecycleNode, topics: list[str], infos: tuple[str, ...], fixed: str,
                 create: Callable[[type, str, Any], Any], qos: QoSProfile) -> None:
        self._node, self._topics, self._fixed = node, topics, fixed
        self._pose = create(PoseWithCovarianceStamped, 'pose', qos)
        self._bearing = create(Vector3Stamped, 'bearing', qos)
        self._cameras: list[Pinhole | None] = [None] * len(topics)
        self._read: list[Any] = [None] * len(topics)
        self._map: tuple[str, PoseMap | None] = ('', None)
        self._tracks: dict[tuple[int, int], Steady] = {}
        names = list(infos) + [''] * (len(topics) - len(infos))
        self._infos = [name or info_topic(topic) for name, topic in zip(names, topics)]
        self._subscriptions = [
            node.create_subscription(CameraInfo, name, self._taker(source),
                                     qos_profile_sensor_data)
            for source, name in enumerate(self._infos)]
        self._transforms = Transforms()
        if fixed and TFMessage is None:
            node.get_logger().warning(
                f"tf2_msgs is not installed: poses are told in the cameras' frames, not in "
                f"'{fixed}'; install it, or set fixed_frame to ''")
            self._fixed = ''
        if self._fixed:
            self._subscriptions += [
                node.create_subscription(TFMessage, '/tf', lambda message:
                                         self._transforms.add(message, False), 100),
                node.create_subscription(TFMessage, '/tf_static', lambda message:
                                         self._transforms.add(message, True), STATIC)]

    def _taker(self, source: int) -> Callable[[CameraInfo], None]:
        def take(message: CameraInfo) -> None:
            # The same one comes with every image.
            told = (message.k.tobytes(), bytes(message.d), message.width, message.height,
                    message.distortion_model)
            if told == self._read[source]:
                return
            self._read[source] = told
            try:
                self._cameras[source] = Pinhole.of(message)
            except UserError as error:
                self._cameras[source] = None
                # Once, for the same one is not read again.
                self._node.get_logger().warning(f'{self._infos[source]}: {error}')
        return take

    def wanted(self, model: ImnModel) -> bool:
        """:return: whether anybody listens to what can be told."""
        return bool(self._bearing.get_subscription_count()
                    or model.poses and self._pose.get_subscription_count())

    def tell(self, model: ImnModel, frames: list[Frame], winner: Winner, rows: list[int],
             tracks: list[Followed]) -> list[Pose | None]:
        """
        Tell where the objects of an image are, and publish that of the largest.

        :param model: that answered.
        :param frames: of the batch.
        :param winner: answers to it.
        :param rows: of the image's objects, the largest first.
        :param tracks: of each.
        :return: a pose in the camera's optical frame for each object, ``None`` where it has none.
        """
        source = frames[rows[0]].arrival.source
        camera = self._cameras[source]
        if camera is None:
            self._warn(f'no calibration on {self._infos[source]}: neither bearing nor pose is '
                       'told; publish sensor_msgs/CameraInfo there, or set camera_info_topics')
            return [None] * len(rows)
        poses: list[Pose | None] = []
        for place, (row, track) in enumerate(zip(rows, tracks, strict=True)):
            frame = frames[row]
            try:
                seen = look(frame.rgb, frame.box, model.crop, camera)
            except UserError as error:
                self._warn(f'{self._topics[source]}: {error}')
                seen = None
            pose = None
            if seen is not None:
                if place == 0:
                    ray = Vector3Stamped(header=frame.header)
                    ray.vector.x, ray.vector.y, ray.vector.z = map(float, bearing(seen))
                    self._bearing.publish(ray)
                known = self._known(model)
                if known is not None:
                    now = _seconds(frame.header)
                    pose = self._steady(source, track.number, known, now).update(now, known.tell(
                        seen, winner.label[row], winner.latent_mean[row].ravel()))
            poses.append(pose)
        if poses[0] is not None:
            self._publish(frames[rows[0]].header, poses[0])
        return poses

    def _known(self, model: ImnModel) -> PoseMap | None:
        if self._map[0] != model.poses:
            self._map = model.poses, PoseMap.from_json(model.poses) if model.poses else None
            self._tracks.clear()
        return self._map[1]

    def _steady(self, source: int, track: int, known: PoseMap, now: float) -> Steady:
        for key in [key for key, each in self._tracks.items()
                    if key[0] == source and abs(now - each.time) > FORGOTTEN]:
            del self._tracks[key]
        return self._tracks.setdefault((source, track), Steady(known.seconds))

    def _publish(self, header: Any, pose: Pose) -> None:
        message = PoseWithCovarianceStamped(header=header)
        lead = np.eye(4)
        if self._fixed:
            stamp = header.stamp.sec * 10 ** 9 + header.stamp.nanosec
            found = self._transforms.between(self._fixed, header.frame_id, stamp)
            if found is None:
                self._warn(f"tf leads from '{header.frame_id}' nowhere to '{self._fixed}' at the "
                           "image's time; no pose is published")
                return
            # The image's own header goes with other messages, too.
            lead = found
            message.header = Header(stamp=header.stamp, frame_id=self._fixed)
        fill(message.pose, pose, lead)
        self._pose.publish(message)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=LOG_PERIOD)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def fill(message: Any, pose: Pose, lead: np.ndarray | None = None) -> None:
    """
    Write a pose into geometry_msgs/PoseWithCovariance.

    :param message: filled.
    :param pose: in one frame.
    :param lead: (4, 4) from there to the message's frame; by default the same.
    """
    lead = np.eye(4) if lead is None else lead
    turn = lead[:3, :3]
    position = turn @ pose.position + lead[:3, 3]
    for axis, value in zip('xyz', position):
        setattr(message.pose.position, axis, float(value))
    for axis, value in zip('xyzw', Rotation.from_matrix(turn @ pose.axes).as_quat()):
        setattr(message.pose.orientation, axis, float(value))
    both = np.kron(np.eye(2), turn)
    message.covariance = (both @ pose.covariance @ both.T).ravel()


def _seconds(header: Any) -> float:
    return float(header.stamp.sec + header.stamp.nanosec * 1e-9)
