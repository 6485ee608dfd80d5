"""Image messages of every kind that a camera driver may send, good and bad."""
from array import array

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """
    Draw something that no other seed gives.

    :param seed: of the random blocks.
    :param height: in pixels.
    :param width: in pixels.
    :return: (height, width, 3) uint8 RGB.
    """
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


def views(seed: int, count: int, first: int = 0) -> np.ndarray:
    """
    Draw views of one thing: the same picture, each time in another light and with other noise.

    :param seed: of the thing.
    :param count: how many.
    :param first: number of the first view; the same number gives the same view.
    :return: (count, 48, 64, 3) uint8 RGB.
    """
    thing = picture(seed).astype(float)
    found = []
    for number in range(first, first + count):
        rng = np.random.default_rng((seed, number))
        found.append(thing * rng.uniform(0.8, 1.0) + rng.normal(0.0, 8.0, thing.shape))
    return np.stack(found).clip(0, 255).astype(np.uint8)


def header(frame: str, seconds: float = 1.0) -> Header:
    """
    Build a header.

    :param frame: frame_id, by which tests tell images apart.
    :param seconds: stamp.
    """
    nanoseconds = round(seconds * 1e9)
    stamp = Time(sec=nanoseconds // 10 ** 9, nanosec=nanoseconds % 10 ** 9)
    return Header(frame_id=frame, stamp=stamp)


def raw(frame: str, rgb: np.ndarray, encoding: str = 'rgb8', padding: int = 0,
        seconds: float = 1.0) -> Image:
    """
    Build an Image message.

    :param frame: frame_id.
    :param rgb: (H, W, 3) uint8.
    :param encoding: rgb8, bgr8, mono8 or mono16 (sent big-endian).
    :param padding: bytes after each row.
    :param seconds: stamp.
    """
    pixels = rgb
    if encoding == 'bgr8':
        pixels = rgb[:, :, ::-1]
    elif encoding.startswith('mono'):
        pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if encoding == 'mono16':
        pixels = (pixels.astype(np.uint16) << 8).astype('>u2')
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(rgb.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(header=header(frame, seconds), height=rgb.shape[0], width=rgb.shape[1],
                 encoding=encoding, is_bigendian=int(encoding == 'mono16'), step=rows.shape[1],
                 data=array('B', rows.tobytes()))


def jpeg(frame: str, rgb: np.ndarray, seconds: float = 1.0, quality: int = 95) -> CompressedImage:
    """
    Build a CompressedImage message.

    :param frame: frame_id.
    :param rgb: (H, W, 3) uint8.
    :param seconds: stamp.
    :param quality: of the JPEG, 1 to 100.
    """
    done, data = cv2.imencode('.jpg', rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return CompressedImage(header=header(frame, seconds), format='rgb8; jpeg compressed bgr8',
                           data=array('B', data.tobytes()))


def bad_images() -> dict[str, Image]:
    """Return raw images that must not be answered, named by what is wrong with them."""
    good = picture(0)
    step, length, encoding, depth, empty = (raw(name, good) for name in (
        'step', 'length', 'encoding', 'depth', 'empty'))
    step.step = 3 * 64 - 1
    length.data = length.data[:1000]
    encoding.encoding = 'purple12'
    depth.encoding = '32FC1'
    empty.height = empty.width = 0
    return {image.header.frame_id: image for image in (step, length, encoding, depth, empty)}


def fuzzed(count: int, seed: int) -> list[Image]:
    """
    Make Image messages whose fields mostly contradict each other.

    :param count: how many.
    :param seed: of the randomness; frame_id is fuzz0, fuzz1, ...
    """
    random = np.random.default_rng(seed)
    encodings = ['rgb8', 'bgr8', 'mono8', 'mono16', 'rgba8', 'yuv422', 'nv12', 'bayer_rggb8',
                 '32FC1', '', 'purple12', 'RGB8 ', 'x' * 300, 'ä']
    sides = [0, 1, 2, 3, 7, 16, 2 ** 16, 2 ** 32 - 1]
    images = []
    for index in range(count):
        images.append(Image(
            header=header(f'fuzz{index}', float(random.integers(0, 100))),
            height=int(random.choice(sides)), width=int(random.choice(sides)),
            step=int(random.choice([*sides, 48, 64])), encoding=str(random.choice(encodings)),
            is_bigendian=int(random.integers(0, 256)),
            data=array('B', random.bytes(int(random.integers(0, 900))))))
    return images
