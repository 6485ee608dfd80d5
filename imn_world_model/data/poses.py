"""Poses of an object, and the camera's calibration, as logs hold them."""
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import BagReport, read_bag
from imn_world_model.data.transforms import Transforms, placed
from imn_world_model.vision.pinhole import Pinhole

INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
TF_TYPE = 'tf2_msgs/msg/TFMessage'
POSE_TYPES = ('geometry_msgs/msg/PoseStamped', 'geometry_msgs/msg/PoseWithCovarianceStamped',
              'nav_msgs/msg/Odometry')
STATIC = '/tf_static'
# Nanoseconds by which a pose may be off an image.
TOGETHER = 20_000_000


@dataclass
class Recorded:
    """
    What a recording tells of poses.

    :param cameras: topic of sensor_msgs/CameraInfo -> its first message.
    :param transforms: of all its frames.
    :param topics: topic -> type, of poses.
    :param stamps: of the wanted poses, ns, in order.
    :param poses: (4, 4) of each, in its frame.
    :param frames: name of each one's frame.
    """

    cameras: dict[str, Any] = field(default_factory=dict)
    transforms: Transforms = field(default_factory=Transforms)
    topics: dict[str, str] = field(default_factory=dict)
    stamps: list[int] = field(default_factory=list)
    poses: list[np.ndarray] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    def at(self, stamp: int, camera: str) -> np.ndarray | None:
        """
        Tell where the object was.

        :param stamp: of an image, ns.
        :param camera: name of its optical frame; empty where that is not known: poses are then
            taken as they are.
        :return: (4, 4) of the object in that frame; ``None`` where no pose is near in time.
        :raises UserError: where a pose's frame is another and no transform leads to the camera.
        """
        if not self.stamps:
            return None
        right = min(bisect_left(self.stamps, stamp), len(self.stamps) - 1)
        best = min((max(0, right - 1), right), key=lambda k: abs(self.stamps[k] - stamp))
        if abs(self.stamps[best] - stamp) > TOGETHER:
            return None
        frame = self.frames[best]
        if not camera or not frame or frame == camera:
            return self.poses[best]
        lead = self.transforms.between(camera, frame, stamp)
        if lead is None:
            raise UserError(f"poses are told in '{frame}' and no transform leads from there to "
                            f"the camera's '{camera}'; record /tf and /tf_static, too")
        found: np.ndarray = lead @ self.poses[best]
        return found


def read_recorded(path: Path, topic: str, child: str = '') -> Recorded:
    """
    Go through a recording for poses.

    :param path: a rosbag2 folder or storage file.
    :param topic: of the poses; of tf where ``child`` is given.
    :param child: frame of the object in tf.
    :raises UserError: when there are no such poses.
    """
    found = Recorded()
    report = BagReport()
    told: list[tuple[int, np.ndarray, str]] = []
    for message in read_bag(path, report, kinds=(INFO_TYPE, TF_TYPE, *POSE_TYPES)):
        try:
            decoded = message.decode()
        except UserError:                             # one of many
            continue
        if message.kind == INFO_TYPE:
            found.cameras.setdefault(message.topic, decoded)
        elif message.kind == TF_TYPE:
            found.transforms.add(decoded, message.topic == STATIC)
            told += [_of_frame(each) for each in decoded.transforms
                     if each.child_frame_id.lstrip('/') == child and message.topic == topic]
        elif message.topic == topic:
            held = decoded.pose
            pose = held.pose if hasattr(held, 'pose') else held
            told.append((_ns(decoded.header) or message.stamp,
                         placed(pose.position, pose.orientation),
                         decoded.header.frame_id.lstrip('/')))
    found.topics = {name: kind for name, kind in report.topics.items()
                    if kind in (*POSE_TYPES, TF_TYPE)}
    if not told:
        there = ', '.join(f'{name} ({kind})' for name, kind in sorted(found.topics.items()))
        what = f"'{child}' in {topic}" if child else topic
        raise UserError(f'{path}: no poses of {what}; it has {there or "no poses at all"}'
                        + ('' if child else '; with tf give --object-frame, too'))
    told.sort(key=lambda each: each[0])
    for stamp, pose, frame in told:
        found.stamps.append(stamp)
        found.poses.append(pose)
        found.frames.append(frame)
    return found


def _of_frame(each: Any) -> tuple[int, np.ndarray, str]:
    return (_ns(each.header), placed(each.transform.translation, each.transform.rotation),
            each.header.frame_id.lstrip('/'))


def _ns(header: Any) -> int:
    return int(header.stamp.sec * 10 ** 9 + header.stamp.nanosec)


def read_camera(path: Path) -> Pinhole:
    """
    Read a calibration file.

    :param path: YAML as ROS's camera_calibration writes it.
    :raises UserError: when it is no such file.
    """
    try:
        kept = yaml.safe_load(path.read_text())
        message = SimpleNamespace(
            k=kept['camera_matrix']['data'], d=kept['distortion_coefficients']['data'],
            distortion_model=kept['distortion_model'], width=kept['image_width'],
            height=kept['image_height'])
        return Pinhole.of(message)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path} is no camera calibration ({error}); give the YAML file that '
                        'camera_calibration wrote') from error


def camera_for(cameras: dict[str, Any], image_topic: str) -> Any:
    """
    Find the camera_info that belongs to an image topic.

    :param cameras: topic -> message.
    :param image_topic: of the images.
    :return: the message.
    :raises UserError: when it is not clear which.
    """
    name = info_topic(image_topic)
    if name in cameras:
        return cameras[name]
    if len(cameras) == 1:
        return next(iter(cameras.values()))
    raise UserError(f'{name} is not in the log, which has '
                    f'{", ".join(sorted(cameras)) or "no camera_info"}; give --camera-info FILE')


def info_topic(image_topic: str) -> str:
    """:return: by ROS's convention the camera_info beside an image topic."""
    name = image_topic.removesuffix('/compressed')
    return f'{name.rpartition("/")[0]}/camera_info'
