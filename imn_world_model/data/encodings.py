"""The encodings of raw images, and what the samples of a topic's deep images mean."""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.base.errors import UserError


class ImageError(UserError):
    """An image message that cannot be shown as RGB; the message names the cause."""


class DepthError(ImageError):
    """An image of depth or a mask."""


@dataclass(frozen=True)
class Encoding:
    """
    How the bytes of a raw image become colours.

    :param channels: samples per pixel; of planes, of the first one.
    :param conversion: OpenCV's, from 8-bit samples to RGB; ``None`` where they are RGB already.
    :param sample: of numpy, without byte order; all but ``u1`` are brought to 8 bits first.
    :param chroma: bytes of the second plane for each of the first: NV12 has half, NV24 twice.
    :param even: sides that must be even: 0, 1 (the width) or 2.
    """

    channels: int
    conversion: int | None
    sample: str = 'u1'
    chroma: float = 0.0
    even: int = 0


# A bayer pattern's name gives the first two pixels of the first row; OpenCV's the second row's
# second and third, which is why the names differ.
BAYER = {'rggb': cv2.COLOR_BayerBG2RGB, 'bggr': cv2.COLOR_BayerRG2RGB,
         'gbrg': cv2.COLOR_BayerGR2RGB, 'grbg': cv2.COLOR_BayerGB2RGB}
_COLOURS: dict[str, tuple[int, int | None]] = {
    'rgb': (3, None), 'bgr': (3, cv2.COLOR_BGR2RGB), 'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB), 'mono': (1, cv2.COLOR_GRAY2RGB),
    **{f'bayer_{pattern}': (1, code) for pattern, code in BAYER.items()},
}
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=1)
_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=1)
# What node and readers take, by the names of sensor_msgs in small letters. Channels without
# names are OpenCV's: blue first.
ENCODINGS: dict[str, Encoding] = {
    **{f'{name}8': Encoding(*how) for name, how in _COLOURS.items()},
    **{f'{name}16': Encoding(*how, 'u2') for name, how in _COLOURS.items()},
    '8uc1': Encoding(*_COLOURS['mono']), '8uc3': Encoding(*_COLOURS['bgr']),
    '8uc4': Encoding(*_COLOURS['bgra']), '16uc3': Encoding(*_COLOURS['bgr'], 'u2'),
    '16uc4': Encoding(*_COLOURS['bgra'], 'u2'), '32fc3': Encoding(*_COLOURS['bgr'], 'f4'),
    '32fc1': Encoding(*_COLOURS['mono'], 'f4'),
    'yuv422': _UYVY, 'uyvy': _UYVY, 'yuv422_yuy2': _YUYV, 'yuyv': _YUYV,
    'nv12': Encoding(1, cv2.COLOR_YUV2RGB_NV12, chroma=0.5, even=2),
    'nv21': Encoding(1, cv2.COLOR_YUV2RGB_NV21, chroma=0.5, even=2),
    'nv24': Encoding(1, cv2.COLOR_YUV2RGB_YUY2, chroma=2.0),
}
# Encodings of depth and masks: never pictures of an object. 32FC1 nearly always is, see `Levels`.
NOT_PICTURES = ('16uc1', '64fc1', '32sc1', '16sc1')
# Cameras have converters of these.
BITS = (8, 10, 12, 14, 16)
# Grey levels that a float image must have to be no mask.
MIN_LEVELS = 16


class Levels:
    """
    The range of grey levels that a topic uses, learnt from its images one after another.

    A camera of 10 or 12 bits sends them in the low bits of 16. Its white is therefore the largest
    number of the fewest bits (of 8, 10, 12, 14, 16) that hold all samples so far. Floats are
    colours from 0 to 1, or to 255 once a sample is above 1. Not for several threads at a time.
    """

    def __init__(self) -> None:
        self.bits = 0
        self.float_top = 1.0

    @property
    def said(self) -> str:
        """What the user should know of it; empty where all bits are used, or nothing was deep."""
        if self.bits in (0, 16):
            return ''
        return (f'samples use {self.bits} of 16 bits; {(1 << self.bits) - 1} is shown as white')

    def to_8_bits(self, samples: np.ndarray, name: str) -> np.ndarray:
        """
        Bring samples to the range of 8 bits.

        :param samples: of any shape, uint16 or float32 in either byte order, at least one.
        :param name: the encoding, for messages.
        :return: the same shape, uint8.
        :raises ImageError: for floats that are no colours.
        """
        if samples.dtype.kind == 'f':
            return self._floats(samples, name)
        top = int(samples.max())
        self.bits = max(self.bits, next(bits for bits in BITS if top < 1 << bits))
        return (samples >> (self.bits - 8)).astype(np.uint8)

    def _floats(self, samples: np.ndarray, name: str) -> np.ndarray:
        low, top = float(samples.min()), float(samples.max())
        # Not a number fails every comparison.
        if not (low >= 0.0 and top <= 255.0):
            raise ImageError(f'{name!r} has values from {low:g} to {top:g}, which are no colours; '
                             'colours are from 0 to 1 or to 255')
        self.float_top = max(self.float_top, 255.0 if top > 1.0 else 1.0)
        return np.rint(samples * np.float32(255.0 / self.float_top)).astype(np.uint8)


def are_grey_levels(samples: np.ndarray) -> bool:
    """
    Tell a grey picture in floats from depth in metres or millimetres, and from a mask.

    Depth is a measurement: it has all values in between, and holes. A picture was made of 8 or 16
    bits: all its values are whole numbers up to 255, or whole when multiplied by 65535 (of 8 bits
    too, for 65535 = 255 x 257).

    :param samples: float32, of any shape.
    """
    low, top = float(samples.min()), float(samples.max())
    if not (low >= 0.0 and top <= 255.0):             # not a number fails every comparison
        return False
    scaled = samples * np.float32(1.0 if top > 1.0 else 65535.0)
    whole = np.rint(scaled)
    # 65535 times the rounding of a float32 near 1 is 0.004.
    if float(np.abs(scaled - whole).max()) > 0.02:
        return False
    return np.count_nonzero(np.bincount(whole.astype(np.int64).ravel())) >= MIN_LEVELS
