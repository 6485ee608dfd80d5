"""Image messages to RGB arrays: every common encoding, padded rows, either byte order."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.data.encodings import (
    ENCODINGS,
    NOT_PICTURES,
    DepthError,
    Encoding,
    ImageError,
    Levels,
    are_grey_levels,
)
from imn_world_model.data.packed import Head, read_head

# From an image's height and width to how often it may be halved while it is decoded.
Halvings = Callable[[int, int], int]

# A JPEG spends a bit or more on each block of 64 pixels. A flipped bit in the size asks for more:
# OpenCV would then fill gigabytes with grey.
JPEG_PIXELS_PER_BYTE = 1024
# OpenCV's flags for a JPEG at full, half, a quarter and an eighth of its size.
REDUCED = (0, cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4,
            cv2.IMREAD_REDUCED_GRAYSCALE_8)
MAX_HALVINGS = len(REDUCED) - 1
# Where an animated PNG or WebP says that it is one: before its pixels.
PAGES_LOOK = 256


def decode_rgb(buffer: np.ndarray, flags: int = 0) -> np.ndarray | None:
    """
    Let OpenCV decode; before 4.11, as Ubuntu 24.04 and Debian 12 have it, it knows only BGR.

    :param buffer: (N,) uint8, a JPEG, PNG or the like.
    :param flags: one of REDUCED, or ``cv2.IMREAD_ANYDEPTH`` for samples as they are.
    :return: (H, W, 3) RGB, uint8 unless flags say otherwise; None when it is no picture.
    """
    direct = getattr(cv2, 'IMREAD_COLOR_RGB', None)
    if direct is not None:
        return cv2.imdecode(buffer, direct | flags)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | flags)
    return image if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def message_to_rgb(message: Any, halvings: Halvings | None = None,
                   levels: Levels | None = None) -> np.ndarray:
    """
    Decode an image message, from rclpy or from a recording.

    :param message: ``sensor_msgs/Image`` (has ``encoding``) or ``CompressedImage`` (has
        ``format``); only its fields are read.
    :param halvings: how often a JPEG may be halved, see :func:`compressed_to_rgb`.
    :param levels: what is known of the topic's range; learns from this image. By default the
        image is the only one.
    :return: (H, W, 3) uint8 RGB; for rgb8 a view of the message's data.
    :raises ImageError: for an unknown encoding, a wrong step or length, broken JPEG or PNG.
    :raises DepthError: for depth and masks, which is an ImageError, too.
    """
    if hasattr(message, 'encoding'):
        return raw_to_rgb(message, levels)
    return compressed_to_rgb(message.data, message.format, halvings, levels)


def compressed_to_rgb(data: Any, kind: str = '', halvings: Halvings | None = None,
                      levels: Levels | None = None, file: bool = False) -> np.ndarray:
    """
    Decode JPEG, PNG or whatever else OpenCV reads.

    A mosaic (``bayer_rggb8; jpeg compressed``) gets its colours.

    :param data: bytes-like.
    :param kind: the message's format field; its first word is the encoding of what was packed.
    :param halvings: how often a JPEG may be halved, at most three times: its blocks are then
        decoded at that size, which takes half the time at one halving and gives the same means
        but for some levels. By default it is decoded as it is.
    :param levels: as for :func:`message_to_rgb`.
    :param file: whether it is a file. A message with 16-bit grey must say that it is a picture:
        such messages are nearly always depth.
    :return: (H, W, 3) uint8 RGB.
    """
    said = kind.split(';')[0].strip().lower()
    if 'compresseddepth' in kind.lower() or said in NOT_PICTURES:
        raise DepthError(f'format {kind!r} is depth or a mask, not a picture; leave its topic out')
    buffer = np.frombuffer(data, np.uint8)
    head, encoding = read_head(buffer.data), ENCODINGS.get(said)
    if head.is_deep and head.channels == 1 and not file and (
            encoding is None or encoding.sample == 'u1' or encoding.channels > 1):
        raise DepthError(f'{head.bits}-bit grey in format {kind!r} is taken for depth; of a '
                         "picture the format begins with 'mono16'")
    mosaic = head.channels == 1 and said.startswith('bayer_') and encoding is not None
    image = _unpack(buffer, head, halvings if not mosaic else None)
    if image is None:
        raise ImageError(f'compressed image of {buffer.size} bytes, format {kind!r}, '
                         'cannot be decoded')
    if head.white:
        image = (image.astype(np.uint32) * 255 // head.white).clip(0, 255).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = _to_8_bits(image, said, image.ndim == 2, levels)
    if image.ndim == 3:
        return image
    code = encoding.conversion if encoding and mosaic else cv2.COLOR_GRAY2RGB
    return _convert(image, said, code)


def _unpack(buffer: np.ndarray, head: Head, halvings: Halvings | None) -> np.ndarray | None:
    """:return: (H, W, 3) RGB, or (H, W) of grey, in the samples it has; ``None`` for none."""
    if not buffer.size or head.height * head.width > JPEG_PIXELS_PER_BYTE * buffer.size:
        return None
    times = halvings(head.height, head.width) if halvings is not None else 0
    stretched = head.bits > 8 or head.white
    how = cv2.IMREAD_ANYDEPTH if stretched else REDUCED[min(times, MAX_HALVINGS)]
    try:
        if head.channels == 1 and (stretched or halvings is None):
            return cv2.imdecode(buffer, how or cv2.IMREAD_GRAYSCALE)
        return decode_rgb(buffer, how)
    except cv2.error:                                 # such as dimensions beyond OpenCV's limit
        return None


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


def needs_levels(message: Any) -> bool:
    """:return: whether other images of the topic tell how bright an image is."""
    if hasattr(message, 'encoding'):
        encoding = ENCODINGS.get(message.encoding.lower())
        return encoding is not None and encoding.sample != 'u1'
    return read_head(memoryview(message.data)).is_deep


def depth_reason(message: Any) -> str:
    """
    Tell depth and masks from pictures.

    :param message: as for :func:`message_to_rgb`.
    :return: why no picture can be made of it; empty for pictures, and for broken images.
    """
    try:
        message_to_rgb(message)
    except DepthError as error:
        name = message.encoding if hasattr(message, 'encoding') else message.format
        if name.split(';')[0].strip().lower() in NOT_PICTURES:
            return f'depth or mask by its encoding {name.strip()!r}'
        return str(error)
    except ImageError:                                # counted as a broken frame later
        pass
    return ''


def raw_to_rgb(message: Any, levels: Levels | None = None) -> np.ndarray:
    """
    View ``sensor_msgs/Image`` as an array and convert its colours.

    :param message: ``height``, ``width``, ``encoding``, ``step``, ``data`` and, but for
        foxglove's, ``is_bigendian``.
    :param levels: as for :func:`message_to_rgb`.
    :return: (H, W, 3) uint8 RGB.
    :raises ImageError: for an unknown encoding, a wrong step or length.
    """
    name = message.encoding.lower()
    encoding = ENCODINGS.get(name)
    if encoding is None:
        known = f'known: {", ".join(ENCODINGS)}'
        if name in NOT_PICTURES:
            raise DepthError(f'encoding {message.encoding!r} is depth or a mask, not a picture; '
                             f'{known}')
        raise ImageError(f'encoding {message.encoding!r} is unknown; {known}')
    height, width = int(message.height), int(message.width)
    if height < 1 or width < 1:
        raise ImageError(f'image of {width}x{height} pixels is empty')
    if (encoding.even and width % 2) or (encoding.even == 2 and height % 2):
        raise ImageError(f"'{name}' needs even sides, got {width}x{height}")
    plane = _rows(message, name, encoding)
    if encoding.sample != 'u1':
        order = '>' if getattr(message, 'is_bigendian', 0) else '<'
        samples = np.ascontiguousarray(plane).view(order + encoding.sample)
        plane = _to_8_bits(samples, message.encoding, encoding.channels == 1, levels)
    if encoding.channels > 1:
        plane = plane.reshape(height, width, encoding.channels)
    if encoding.chroma > 1:
        # OpenCV knows no colour per pixel: every pixel is made a pair, of which one is kept.
        return np.ascontiguousarray(_convert(plane, name, encoding.conversion)[:, ::2])
    return _convert(plane, name, encoding.conversion)


def _rows(message: Any, name: str, encoding: Encoding) -> np.ndarray:
    """:return: (R, bytes of a row) uint8, all planes below each other; (H, 2 W, 2) of NV24."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * encoding.channels * np.dtype(encoding.sample).itemsize
    data = np.frombuffer(message.data, np.uint8)
    rows = int(height * (1 + encoding.chroma))
    # Drivers disagree on the step of planes: some count all channels of a pixel.
    if encoding.chroma and data.size == rows * width:
        step = width
    if step < row_bytes:
        raise ImageError(f"step {step} is too small: a row of {width} '{name}' pixels has "
                         f'{row_bytes} bytes')
    if rows == 1:
        step = row_bytes    # padding that is never used could otherwise ask for 4 GiB
    # The last row's padding may be missing.
    if data.size < (rows - 1) * step + row_bytes:
        raise ImageError(f"data has {data.size} bytes; {width}x{height} '{name}' with step "
                         f'{step} needs {rows * step}')
    if data.size < rows * step:
        data = np.concatenate((data, np.zeros(rows * step - data.size, np.uint8)))
    if encoding.chroma > 1:                           # a row of colours is as long as two
        luma = data[:height * step].reshape(height, step)[:, :width]
        chroma = data[height * step:rows * step].reshape(height, 2 * step)[:, :2 * width]
        pairs = np.stack((luma, chroma[:, ::2], luma, chroma[:, 1::2]), axis=-1)
        return pairs.reshape(height, 2 * width, 2)
    return data[:rows * step].reshape(rows, step)[:, :row_bytes]


def _to_8_bits(samples: np.ndarray, name: str, grey: bool, levels: Levels | None) -> np.ndarray:
    """:raises DepthError: for floats of one channel that are no grey levels."""
    if grey and samples.dtype.kind == 'f' and not are_grey_levels(samples):
        raise DepthError(f'{name!r} is depth or a mask, not a picture: its values are no grey '
                         'levels (n or n/255); publish pictures as mono8 or mono16')
    if samples.dtype.kind != 'f' and samples.dtype.newbyteorder('=') != np.uint16:
        raise ImageError(f'{name!r} has samples of {samples.dtype.name}, which are no colours')
    return (levels or Levels()).to_8_bits(samples, name)


def _convert(plane: np.ndarray, name: str, conversion: int | None) -> np.ndarray:
    if conversion is None:
        return plane
    try:
        return cv2.cvtColor(np.ascontiguousarray(plane), conversion)
    except cv2.error as error:
        height, width = plane.shape[:2]
        raise ImageError(f"'{name}' of {width}x{height} cannot be converted") from error
