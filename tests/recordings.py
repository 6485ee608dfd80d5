"""Recordings for tests, written by the real writers: rosbags, OpenCV, h5py."""
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STRING = 'std_msgs/msg/String'


def scene(number: int, step: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """:return: (H, W, 3) uint8 RGB: a room of its own colours, an object that moves with step."""
    colors = np.random.default_rng(number).integers(40, 255, (3, 3))
    image = np.empty((height, width, 3), np.uint8)
    image[:height // 2], image[height // 2:] = colors[0], colors[1]
    left = width // 4 + 2 * step
    image[height // 3:2 * height // 3, left:left + width // 6] = colors[2]
    return image


def header(stamp: int, frame: str = 'camera'):
    """:return: a ``std_msgs/Header``; stamp in ns."""
    time = STORE.types['builtin_interfaces/msg/Time'](sec=stamp // 10 ** 9,
                                                      nanosec=stamp % 10 ** 9)
    return STORE.types['std_msgs/msg/Header'](stamp=time, frame_id=frame)


def compressed(rgb: np.ndarray, stamp: int, kind: str = 'jpeg'):
    """:return: a ``sensor_msgs/CompressedImage``."""
    suffix = '.jpg' if kind == 'jpeg' else '.png'
    _, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return STORE.types[COMPRESSED](header=header(stamp), format=kind, data=data)


def raw(data: np.ndarray, encoding: str, stamp: int = 1, width: int | None = None,
        step: int | None = None, big: int = 0, height: int | None = None):
    """:return: a ``sensor_msgs/Image`` around bytes as they are."""
    flat = np.ascontiguousarray(data).reshape(len(data), -1).view(np.uint8)
    return STORE.types[IMAGE](
        header=header(stamp), height=height or len(data), width=width or data.shape[1],
        encoding=encoding, is_bigendian=big, step=step or flat.shape[1], data=flat.ravel())


def write_bag(path: Path, messages: list[tuple[str, str, int, object]],
              storage: StoragePlugin = StoragePlugin.MCAP,
              compression: CompressionMode | None = None) -> Path:
    """
    Write a rosbag2 recording.

    :param messages: topic, type, stamp in ns, message.
    """
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, kind, stamp, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))
    return path


def drive(clips: int = 3, frames: int = 6, start: int = 10 ** 9, topic: str = '/camera/image'
          ) -> list[tuple[str, str, int, object]]:
    """:return: JPEG messages at 10 Hz of several scenes, 5 s between them."""
    messages = []
    for clip in range(clips):
        for k in range(frames):
            stamp = start + clip * 10 ** 10 + k * 10 ** 8
            messages.append((topic, COMPRESSED, stamp, compressed(scene(clip, k), stamp)))
    return messages


def storage_file(bag: Path) -> Path:
    """:return: the one storage file of a recording."""
    return next(item for item in bag.iterdir() if item.name != 'metadata.yaml')
