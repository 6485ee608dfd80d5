"""Where in a picture an object is, and how it is cut out."""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.vision.preprocess import Crop, left_alone

Box = tuple[float, float, float, float]

# Pictures are cut and left as they are.
KEPT = Crop()
# A region is the square about a box, longer than its longer side by this factor.
MARGIN = 1.2
SMALLEST = 8.0


@dataclass(frozen=True)
class Region:
    """
    One object in a picture.

    :param box: x, y, width, height in pixels.
    :param mask: (h, w) uint8 0 or 1, its pixels, of the whole picture at any scale; ``None``
        where only the box is known.
    """

    box: Box
    mask: np.ndarray | None = None


def cut(rgb: np.ndarray, region: Region, size: int, crop: Crop = KEPT) -> np.ndarray:
    """
    Cut the square about a box; beyond the picture its edge is repeated.

    :param rgb: (H, W, 3) uint8.
    :param region: where the object is.
    :param size: side of the result in pixels.
    :param crop: whether the background is removed: by the region's mask, or where it has none as
        :func:`preprocess.left_alone` does.
    :return: (size, size, 3) uint8.
    """
    part = _square(rgb, region.box, size, cv2.BORDER_REPLICATE)
    if crop.background == 'keep':
        return part
    if region.mask is None:
        return left_alone(part, crop)
    scale = region.mask.shape[1] / rgb.shape[1]
    box = tuple(value * scale for value in region.box)
    mask = _square(255 * region.mask, (box[0], box[1], box[2], box[3]), size, cv2.BORDER_CONSTANT)
    soft = cv2.GaussianBlur(mask, (0, 0), size / 90).astype(np.float32) / 255.0
    return left_alone(part, crop, soft)


def square_about(box: Box) -> tuple[int, int, int]:
    """:return: left edge, upper edge and side in pixels of what is cut for a box."""
    x, y, width, height = box
    side = max(1, round(max(width, height, SMALLEST) * MARGIN))
    return round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side


def _square(rgb: np.ndarray, box: Box, size: int, border: int) -> np.ndarray:
    left, top, side = square_about(box)
    above, below = max(0, -top), max(0, top + side - rgb.shape[0])
    before, after = max(0, -left), max(0, left + side - rgb.shape[1])
    part = rgb[max(0, top):max(0, top + side), max(0, left):max(0, left + side)]
    if 0 in part.shape:
        raise UserError(f'box {tuple(round(value) for value in box)} lies outside an image of '
                        f'{rgb.shape[1]}x{rgb.shape[0]} pixels')
    if above or below or before or after:
        part = cv2.copyMakeBorder(part, above, below, before, after, border)
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(part, (size, size), interpolation=how)
