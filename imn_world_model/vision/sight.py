"""What a picture tells, without a model, of where its object is and how it is turned."""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.vision.pinhole import Pinhole
from imn_world_model.vision.preprocess import Crop, prepare
from imn_world_model.vision.regions import Box, Region, cut, square_about
from imn_world_model.vision.silhouette import silhouette

# Side of the picture in which the outline is looked for, and of the patch that shows the turn.
SIDE, PATCH = 64, 10


@dataclass(frozen=True)
class Look:
    """
    An object as the camera sees it, in rays: x / z and y / z in the optical frame.

    :param box: (4,) left, upper, right, lower.
    :param middle: (2,) of the box.
    :param size: square root of the outline's area.
    :param patch: (PATCH * PATCH,) float32, the object in its box: brightness over its mean
        brightness, 0 beside it.
    """

    box: np.ndarray
    middle: np.ndarray
    size: float
    patch: np.ndarray


def look(rgb: np.ndarray, box: Box | None, crop: Crop, camera: Pinhole) -> Look | None:
    """
    Look at an object.

    :param rgb: (H, W, 3) uint8.
    :param box: of the object; ``None`` where the picture, cut by ``crop``, shows one object.
    :param crop: of the model.
    :param camera: that took the picture.
    :return: ``None`` where no outline is found.
    :raises UserError: where box or crop lie outside the picture, or the camera is another one.
    """
    sides = rgb.shape[1], rgb.shape[0]
    if box is None:
        left, top, width, height = crop.area(*sides)
        picture = prepare(rgb, SIDE, Crop(crop.mode, crop.roi))
    else:
        left, top, width = square_about(box)
        height = width
        picture = cut(rgb, Region(box), SIDE)
    mask = silhouette(picture)
    if mask is None:
        return None
    scale = np.array([width, height], float) / SIDE
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
    patch = _patch(picture[low[1]:high[1], low[0]:high[0]], mask[low[1]:high[1], low[0]:high[0]])
    if box is None:
        first, last = (left, top) + scale * low, (left, top) + scale * high
    else:
        first, last = np.array(box[:2]), np.array(box[:2]) + box[2:]
    middle = (first + last) / 2
    rays = camera.rays(np.array([[first[0], middle[1]], [middle[0], first[1]],
                                 [last[0], middle[1]], [middle[0], last[1]], middle]), sides)
    edges = np.array([rays[0, 0], rays[1, 1], rays[2, 0], rays[3, 1]])
    pixel = (edges[2:] - edges[:2]) / (last - first) * scale
    return Look(edges, rays[4], float(np.sqrt(mask.sum() * pixel.prod())), patch)


def _patch(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    grey = picture.mean(2, dtype=np.float32)
    grey = np.where(mask, grey / max(1.0, float(grey[mask].mean())), 0.0).astype(np.float32)
    return cv2.resize(grey, (PATCH, PATCH), interpolation=cv2.INTER_AREA).ravel()
