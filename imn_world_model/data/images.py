"""Image messages to RGB arrays: every common encoding, padded rows, either byte order."""
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.errors import UserError

# From an image's height and width to how often it may be halved while it is decoded.
Halvings = Callable[[int, int], int]


class ImageError(UserError):
    """An image message that cannot be shown as RGB; the message names the cause."""


# Encoding -> (bytes per pixel, OpenCV conversion to RGB or None where it is RGB already).
# A bayer pattern's name gives the first two pixels of the first row; OpenCV's the second row's
# second and third, which is why the names differ.
_PACKED: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None), '8uc3': (3, cv2.COLOR_BGR2RGB), 'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB), 'bgra8': (4, cv2.COLOR_BGRA2RGB),
    '8uc4': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB), '8uc1': (1, cv2.COLOR_GRAY2RGB),
    'mono16': (2, cv2.COLOR_GRAY2RGB),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY), 'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2), 'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    'nv12': (1, cv2.COLOR_YUV2RGB_NV12),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB), 'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB), 'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
}
ENCODINGS = tuple(_PACKED)
# Encodings of depth and masks: never pictures of an object.
NOT_PICTURES = ('16uc1', '32fc1', '64fc1', '32sc1', '16sc1')
# A JPEG spends a bit or more on each block of 64 pixels. A flipped bit in the size asks for more:
# OpenCV would then fill gigabytes with grey.
JPEG_PIXELS_PER_BYTE = 1024
# OpenCV's flags for a JPEG at full, half, a quarter and an eighth of its size.
REDUCED = (0, cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4,
            cv2.IMREAD_REDUCED_GRAYSCALE_8)
MAX_HALVINGS = len(REDUCED) - 1
# Where an animated PNG or WebP says that it is one: before its pixels.
PAGES_LOOK = 256


def decode_rgb(buffer: np.ndarray, reduced: int = 0) -> np.ndarray | None:
    """
    Let OpenCV decode; before 4.11, as Ubuntu 24.04 and Debian 12 have it, it knows only BGR.

    :param buffer: (N,) uint8, a JPEG, PNG or the like.
    :param reduced: one of REDUCED.
    :return: (H, W, 3) uint8 RGB; None when it is no picture.
    """
    direct = getattr(cv2, 'IMREAD_COLOR_RGB', None)
    if direct is not None:
        return cv2.imdecode(buffer, direct | reduced)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | reduced)
    return image if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def message_to_rgb(message: Any, halvings: Halvings | None = None) -> np.ndarray:
    """
    Decode an image message, from rclpy or from a recording.

    :param message: ``sensor_msgs/Image`` (has ``encoding``) or ``CompressedImage`` (has
        ``format``); only its fields are read.
    :param halvings: how often a JPEG may be halved, see :func:`compressed_to_rgb`.
    :return: (H, W, 3) uint8 RGB; for rgb8 a view of the message's data.
    :raises ImageError: for an unknown encoding, a wrong step or length, broken JPEG or PNG.
    """
    if hasattr(message, 'encoding'):
        return raw_to_rgb(message)
    return compressed_to_rgb(message.data, message.format, halvings)


def compressed_to_rgb(data: Any, kind: str = '',
                      halvings: Halvings | None = None) -> np.ndarray:
    """
    Decode JPEG, PNG or whatever else OpenCV reads.

    :param data: bytes-like.
    :param kind: the message's format field, for the error message.
    :param halvings: how often a JPEG may be halved, at most three times: its blocks are then
        decoded at that size, which takes half the time at one halving and gives the same means
        but for some levels. By default it is decoded as it is.
    :return: (H, W, 3) uint8 RGB.
    """
    if 'compresseddepth' in kind.lower():
        raise ImageError(f'format {kind!r} is depth, not a picture; leave its topic out')
    buffer = np.frombuffer(data, np.uint8)
    image = None
    height, width = _jpeg_shape(buffer.data)
    if buffer.size and height * width <= JPEG_PIXELS_PER_BYTE * buffer.size:
        times = halvings(height, width) if halvings is not None else 0
        try:
            image = decode_rgb(buffer, REDUCED[min(times, MAX_HALVINGS)])
        except cv2.error:                             # such as dimensions beyond OpenCV's limit
            image = None
    if image is None:
        raise ImageError(f'compressed image of {buffer.size} bytes, format {kind!r}, '
                         'cannot be decoded')
    return image


def has_pages(file: Path) -> bool:
    """:return: whether a PNG, WebP or TIFF file is an animation or has several pages."""
    with file.open('rb') as stream:
        head = stream.read(PAGES_LOOK)
    if head.startswith(b'\x89PNG'):
        return b'acTL' in head
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return b'ANIM' in head
    if head[:4] not in (b'II*\0', b'MM\0*'):
        return False
    try:
        return cv2.imcount(str(file)) > 1
    except cv2.error:                                 # counted as broken when it is decoded
        return False


def _jpeg_shape(data: memoryview) -> tuple[int, int]:
    """:return: height and width that a JPEG claims to have; 0 where it does not say or is none."""
    place = 2
    if bytes(data[:2]) != b'\xff\xd8':
        return 0, 0
    while place + 9 <= len(data):
        marker = data[place + 1]
        if data[place] != 0xFF or marker in (0x00, 0xFF):
            place += 1                                # what libjpeg skips as well
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, place + 5)
            return height, width
        elif marker == 0xDA:                          # the pixels begin
            return 0, 0
        else:
            place += 2 + struct.unpack_from('>H', data, place + 2)[0]
    return 0, 0


def depth_format(message: Any) -> str:
    """
    Tell depth and masks from pictures.

    :param message: as for :func:`message_to_rgb`.
    :return: the encoding or format if no picture can be made of it, else an empty string.
    """
    if hasattr(message, 'encoding'):
        name = message.encoding
        return name if name.lower() in NOT_PICTURES else ''
    # image_transport writes "16UC1; png compressed " and "32FC1; compressedDepth png".
    name = message.format
    first = name.split(';')[0].strip().lower()
    return name if first in NOT_PICTURES or 'compresseddepth' in name.lower() else ''


def raw_to_rgb(message: Any) -> np.ndarray:
    """
    View ``sensor_msgs/Image`` as an array and convert its colours.

    :param message: ``height``, ``width``, ``encoding``, ``step``, ``data`` and, but for
        foxglove's, ``is_bigendian``.
    :return: (H, W, 3) uint8 RGB.
    :raises ImageError: for an unknown encoding, a wrong step or length.
    """
    encoding = message.encoding.lower()
    if encoding not in _PACKED:
        kind = 'is depth or a mask, not a picture' if encoding in NOT_PICTURES else 'is unknown'
        raise ImageError(f'encoding {message.encoding!r} {kind}; known: {", ".join(ENCODINGS)}')
    pixel_bytes, conversion = _PACKED[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * pixel_bytes
    if height < 1 or width < 1:
        raise ImageError(f'image of {width}x{height} pixels is empty')
    if step < row_bytes:
        raise ImageError(f"step {step} is too small: a row of {width} '{encoding}' pixels has "
                         f'{row_bytes} bytes')
    # NV12: a plane of brightness, then one of half the height with the colours.
    rows = height * 3 // 2 if encoding == 'nv12' else height
    if rows == 1:
        step = row_bytes    # padding that is never used could otherwise ask for 4 GiB
    data = np.frombuffer(message.data, np.uint8)
    # The last row's padding may be missing.
    if data.size < (rows - 1) * step + row_bytes:
        raise ImageError(f"data has {data.size} bytes; {width}x{height} '{encoding}' with step "
                         f'{step} needs {rows * step}')
    if data.size < rows * step:
        data = np.concatenate((data, np.zeros(rows * step - data.size, np.uint8)))
    plane = data[:rows * step].reshape(rows, step)[:, :row_bytes]
    if encoding == 'mono16':
        order = '>u2' if getattr(message, 'is_bigendian', 0) else '<u2'
        values = np.ascontiguousarray(plane).view(order)
        plane = (values >> 8).astype(np.uint8)
        pixel_bytes = 1
    even = encoding.startswith(('yuv422', 'uyvy', 'yuyv', 'nv12'))
    if even and (width % 2 or (encoding == 'nv12' and height % 2)):
        raise ImageError(f"'{encoding}' needs even sides, got {width}x{height}")
    if pixel_bytes > 1:
        plane = plane.reshape(rows, width, pixel_bytes)
    if conversion is None:
        return plane
    try:
        return cv2.cvtColor(np.ascontiguousarray(plane), conversion)
    except cv2.error as error:
        raise ImageError(f"'{encoding}' of {width}x{height} cannot be converted") from error
