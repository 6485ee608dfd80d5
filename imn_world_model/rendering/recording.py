"""A simulated drive as a rosbag2 folder."""
import argparse
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from math import cos, sin
from multiprocessing import get_context
from typing import Any

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from imn_world_model.base.cli import atomic_path
from imn_world_model.rendering.drive import Drive, clip_drive
from imn_world_model.rendering.drivers import CONTROL_RATE
from imn_world_model.rendering.robot_camera import CENTRE, FOCAL_LENGTH, HEIGHT, WIDTH
from imn_world_model.rendering.robot_frames import Frame, shoot

IMAGE_TOPIC = '/camera/image_raw/compressed'
INFO_TOPIC = '/camera/camera_info'
TRUTH_TOPIC = '/ground_truth'
POSE_TOPIC = '/ground_truth/object_pose'
COMMAND_TOPIC = '/cmd_vel'
ODOM_TOPIC = '/odom'
FRAME_ID = 'camera_optical_frame'
BASE_FRAME, ODOM_FRAME = 'base_link', 'odom'
_START = 1_767_225_600 * 10 ** 9      # 2026-01-01: stamps must not depend on when the log is made
_PAUSE = 2.0                          # seconds between clips
_TYPES = get_typestore(Stores.ROS2_HUMBLE)


# rosbags makes its message classes at run time, so the checker cannot know them: Any below.
def make(name: str, **fields: Any) -> Any:
    """:return: a ROS message, its type given as ``package/Type``."""
    return _TYPES.types[name.replace('/', '/msg/')](**fields)


def header(stamp: int, frame: str = FRAME_ID) -> Any:
    """:return: a header at ``stamp``, in nanoseconds."""
    seconds, nanoseconds = divmod(stamp, 10 ** 9)
    time = make('builtin_interfaces/Time', sec=seconds, nanosec=nanoseconds)
    return make('std_msgs/Header', stamp=time, frame_id=frame)


def camera_info(stamp: int) -> Any:
    """:return: the simulated camera's calibration: a pinhole without distortion."""
    matrix = np.array([[FOCAL_LENGTH, 0.0, CENTRE[0]], [0.0, FOCAL_LENGTH, CENTRE[1]],
                       [0.0, 0.0, 1.0]])
    roi = make('sensor_msgs/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
               do_rectify=False)
    return make('sensor_msgs/CameraInfo', header=header(stamp), height=HEIGHT, width=WIDTH,
                distortion_model='plumb_bob', d=np.zeros(5), k=matrix.ravel(), r=np.eye(3).ravel(),
                p=np.hstack((matrix, np.zeros((3, 1)))).ravel(), binning_x=0, binning_y=0, roi=roi)


def messages(frame: Frame, stamp: int) -> dict[str, Any]:
    """:return: a frame's message for each topic, all with the stamp of the picture."""
    held = {
        IMAGE_TOPIC: make('sensor_msgs/CompressedImage', header=header(stamp), format='jpeg',
                          data=np.frombuffer(frame.jpeg, np.uint8)),
        INFO_TOPIC: camera_info(stamp),
        TRUTH_TOPIC: make('std_msgs/String', data=json.dumps({'stamp': stamp} | frame.truth))}
    if 'objects' in frame.truth:                      # no one pose is that of the picture
        return held
    position = make('geometry_msgs/Point', **dict(zip('xyz', frame.position, strict=True)))
    turn = make('geometry_msgs/Quaternion', **dict(zip('xyzw', frame.quaternion, strict=True)))
    return held | {
        POSE_TOPIC: make('geometry_msgs/PoseStamped', header=header(stamp),
                         pose=make('geometry_msgs/Pose', position=position, orientation=turn))}


def driven(drive: Drive, step: int, stamp: int) -> dict[str, Any]:
    """:return: the messages of a step of control: the command from here on, and where it is."""
    forward, left, turn = drive.command[step]
    twist = make('geometry_msgs/Twist', linear=make('geometry_msgs/Vector3', x=forward, y=left,
                                                    z=0.0),
                 angular=make('geometry_msgs/Vector3', x=0.0, y=0.0, z=turn))
    ahead, aside, turned = drive.poses[step].seen_from(drive.poses[0])
    place = make('geometry_msgs/Point', x=ahead, y=aside, z=0.0)
    pose = make('geometry_msgs/Pose', position=place, orientation=make(
        'geometry_msgs/Quaternion', x=0.0, y=0.0, z=sin(turned / 2), w=cos(turned / 2)))
    unknown = np.zeros(36)
    return {
        COMMAND_TOPIC: twist,
        ODOM_TOPIC: make(
            'nav_msgs/Odometry', header=header(stamp, ODOM_FRAME), child_frame_id=BASE_FRAME,
            pose=make('geometry_msgs/PoseWithCovariance', pose=pose, covariance=unknown),
            twist=make('geometry_msgs/TwistWithCovariance', twist=twist, covariance=unknown))}


def between(args: argparse.Namespace, index: int) -> Iterator[tuple[float, int]]:
    """:return: steps of control from a frame to the next: seconds into the clip, and number."""
    first, end = (int(np.ceil(number / args.rate * CONTROL_RATE - 1e-9))
                  for number in (index, index + 1))
    yield from ((step / CONTROL_RATE, step) for step in range(first, end))


def shoot_all(args: argparse.Namespace) -> Iterator[Frame]:
    """:return: all frames in order; what they hold does not depend on the number of processes."""
    tasks = [(args.seed, clip, index, args.rate, args.quality, args.arena, args.commands,
              args.frames / args.rate, args.mounted, args.objects, args.base)
             for clip in range(args.clips) for index in range(args.frames)]
    if args.jobs == 1:
        yield from (shoot(*task) for task in tasks)
        return
    with ProcessPoolExecutor(args.jobs, get_context('spawn')) as pool:
        yield from pool.map(shoot, *zip(*tasks, strict=True), chunksize=5)


def record(args: argparse.Namespace) -> None:
    """Write the log that the command line asks for."""
    period = 10 ** 9 / args.rate
    clip_period = args.frames * period + _PAUSE * 10 ** 9
    with atomic_path(args.out) as folder:
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connections: dict[str, Connection] = {}

            def write(stamp: int, held: dict[str, Any]) -> None:
                for topic, message in held.items():
                    if topic not in connections:
                        connections[topic] = writer.add_connection(
                            topic, message.__msgtype__, typestore=_TYPES)
                    data = _TYPES.serialize_cdr(message, message.__msgtype__)
                    writer.write(connections[topic], stamp, data)

            frames = tqdm(shoot_all(args), 'frames', args.clips * args.frames)
            for number, frame in enumerate(frames):
                clip, index = divmod(number, args.frames)
                # Whole nanoseconds of this size are too large for a float.
                start = _START + round(clip * clip_period)
                stamp = _START + round(clip * clip_period + index * period)
                write(stamp, messages(frame, stamp))
                if args.commands is not None:
                    drive = clip_drive(args.seed, clip, args.frames / args.rate, args.arena,
                                       args.commands, args.mounted, args.base)
                    for time, step in between(args, index):
                        stamp = start + round(time * 1e9)
                        write(stamp, driven(drive, step, stamp))
        if args.out.exists():
            shutil.rmtree(args.out)
