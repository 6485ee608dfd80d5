"""Recordings for tests, written by the real writers: rosbags, OpenCV, h5py."""
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STRING = 'std_msgs/msg/String'
NUM_NOISE = 20


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
              compression: CompressionMode | None = None, version: Literal[8, 9] = 9) -> Path:
    """
    Write a rosbag2 recording.

    :param messages: topic, type, stamp in ns, message.
    :param version: of the layout: 8 as Iron writes, 9 as Jazzy and Kilted do.
    """
    writer = Writer(path, version=version, storage_plugin=storage)
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


def noise(seed: int) -> np.ndarray:
    """:return: (240, 320, 3) uint8, large enough that a few fill a chunk."""
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)


def noise_bag(path: Path, storage: StoragePlugin) -> Path:
    """:return: a recording that fills several chunks or pages."""
    return write_bag(path, [('/camera', IMAGE, k + 1, raw(noise(k), 'rgb8', k + 1))
                            for k in range(NUM_NOISE)], storage)


def mcap_with_checksums(file: Path, compression: CompressionType = CompressionType.ZSTD) -> Path:
    """:return: a file by the MCAP library, which gives chunks a checksum, as rosbag2 does."""
    with file.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=500_000, compression=compression)
        writer.start()
        channel = writer.register_channel('/camera', 'cdr', writer.register_schema(
            IMAGE, 'ros2msg', b''))
        for k in range(NUM_NOISE):
            message = raw(noise(k), 'rgb8', k + 1)
            writer.add_message(channel, k + 1, bytes(STORE.serialize_cdr(message, IMAGE)), k + 1)
        writer.finish()
    return file


def damage(file: Path, start: float, length: int) -> None:
    """Overwrite bytes from a fraction of the file on."""
    data = bytearray(file.read_bytes())
    first = int(len(data) * start)
    data[first:first + length] = bytes(255 for _ in range(length))
    file.write_bytes(data)
