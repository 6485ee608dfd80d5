"""From a camera image to the network's input: the same in training and on the robot."""
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.vision.cutout import MARGIN, alone, along, cut_out

# Images with sides of at least this many times the result's are halved first.
HALVED_FROM = 4


@dataclass(frozen=True)
class Crop:
    """
    Which part of an image is looked at.

    :param mode: ``center`` cuts the largest centred square, ``none`` squeezes the whole image.
    :param roi: x, y, width, height in source pixels, cut first; ``None`` for the whole image.
    :param background: ``remove`` leaves the object alone before plain grey, see :mod:`cutout`.
    :param turn: whether the object, alone, is turned so that its longest axis lies level.
    """

    mode: Literal['center', 'none'] = 'center'
    roi: tuple[int, int, int, int] | None = None
    background: Literal['keep', 'remove'] = 'keep'
    turn: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ('center', 'none'):
            raise UserError(f"crop mode is '{self.mode}'; it must be 'center' or 'none'")
        if self.background not in ('keep', 'remove'):
            raise UserError(f"crop background is '{self.background}'; it must be 'keep' or "
                            "'remove'")
        if self.turn and self.background == 'keep':
            raise UserError('crop turns objects, but only those before a removed background can '
                            'be turned')
        if self.roi is not None:
            if len(self.roi) != 4:
                raise UserError(f'region of interest is {self.roi}; give x, y, width, height')
            x, y, width, height = self.roi
            if x < 0 or y < 0 or width < 1 or height < 1:
                raise UserError(f'region of interest is {self.roi}; x and y must be at least 0, '
                                'width and height at least 1')

    def halvings(self, height: int, width: int, size: int) -> int:
        """
        How often a reader may halve an image for :func:`prepare`, which then need not.

        :param height: of the whole image in pixels.
        :param width: likewise.
        :param size: side of the result in pixels.
        :return: 0 with a region of interest, which is given in pixels of the whole image.
        """
        return 0 if self.roi else _halvings(height, width, size)


    def area(self, width: int, height: int) -> tuple[int, int, int, int]:
        """
        Which part of a picture :func:`prepare` shows.

        :param width: of the picture in pixels.
        :param height: likewise.
        :return: left edge, upper edge, width, height in pixels.
        """
        left, top, width, height = self.roi or (0, 0, width, height)
        if self.mode == 'none':
            return left, top, width, height
        side = min(width, height)
        return left + (width - side) // 2, top + (height - side) // 2, side, side


def _halvings(height: int, width: int, size: int) -> int:
    times = 0
    while not (height % 2 or width % 2) and min(height, width) >= HALVED_FROM * size:
        height, width, times = height // 2, width // 2, times + 1
    return times


def prepare(rgb: np.ndarray, size: int, crop: Crop) -> np.ndarray:
    """
    Cut and resize by area averaging; leave the object alone where that is asked for.

    :param rgb: (H, W, 3) uint8.
    :param size: side of the result in pixels.
    :param crop: what to cut.
    :return: (size, size, 3) uint8, contiguous.
    :raises UserError: when the region of interest lies outside the image.
    """
    if crop.roi is not None:
        x, y, width, height = crop.roi
        if x + width > rgb.shape[1] or y + height > rgb.shape[0]:
            raise UserError(f'region of interest {crop.roi} does not fit into an image of '
                            f'{rgb.shape[1]}x{rgb.shape[0]} pixels')
        rgb = rgb[y:y + height, x:x + width]
    if crop.mode == 'center':
        height, width = rgb.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        rgb = rgb[top:top + side, left:left + side]
    rgb = _resized(rgb, size)
    return left_alone(rgb, crop) if crop.background == 'remove' else rgb


def left_alone(rgb: np.ndarray, crop: Crop, mask: np.ndarray | None = None) -> np.ndarray:
    """
    Take the background away.

    :param rgb: (S, S, 3) uint8.
    :param crop: whether the object is turned, too.
    :param mask: (S, S) float32 in [0, 1]; by default what :func:`cutout.cut_out` finds.
    :return: (S, S, 3) uint8.
    """
    left = alone(rgb, cut_out(rgb, MARGIN) if mask is None else mask)
    return along(left) if crop.turn else left


def _resized(rgb: np.ndarray, size: int) -> np.ndarray:
    if rgb.shape[:2] == (size, size):
        return np.ascontiguousarray(rgb)
    # Halves are fast, and few pixels are left for areas with fractions. Each rounds up by an
    # eighth of a level on average.
    for _ in range(_halvings(rgb.shape[0], rgb.shape[1], size)):
        halves = rgb.shape[1] // 2, rgb.shape[0] // 2
        rgb = cv2.resize(rgb, halves, interpolation=cv2.INTER_AREA)
    return cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
