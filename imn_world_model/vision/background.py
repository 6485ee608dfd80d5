"""
The background of a camera that stands still, and what differs from it.

The median of its pictures is the background, and the object is what differs from it by more than
light, noise and a shaking camera explain. Where it moves, see :mod:`proposals`.
"""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.vision.regions import Region

# Pictures are looked at with at most so many pixels along a side.
LOOK_SIDE = 320
# Pixels by which the camera may shake; grey levels, and multiples of a pixel's own median
# deviation, that are no object.
SHAKE = 5
DIFFERENCE, DEVIATIONS = 10.0, 3.0
# Gaps in an object up to so many pixels are closed; parts with this share of the largest part's
# difference, and no further away than this share of its size, belong to it.
GAP = 9
PART, NEAR = 0.1, 0.5


@dataclass(frozen=True)
class Background:
    """
    What a camera at rest sees when nothing is there.

    :param level: (h, w, 3) float32, grey levels.
    :param deviation: (h, w) float32, median deviation from it.
    """

    level: np.ndarray
    deviation: np.ndarray

    @staticmethod
    def of(pictures: np.ndarray) -> 'Background':
        """:return: the median of pictures (K, h, w, 3)."""
        level = np.median(pictures, axis=0).astype(np.float32)
        deviation = np.median(np.abs(pictures - level), axis=0).max(-1)
        return Background(level, deviation.astype(np.float32))

    def difference(self, picture: np.ndarray) -> np.ndarray:
        """
        What neither light, noise nor a shaking camera explains.

        :param picture: (h, w, 3) uint8.
        :return: (h, w) float32, grey levels above the threshold; at most 0 for background.
        """
        gain = np.median(picture.reshape(-1, 3) / self.level.reshape(-1, 3).clip(1.0), axis=0)
        level = self.level * gain.astype(np.float32)
        around = np.ones((SHAKE, SHAKE), np.uint8)
        value = picture.astype(np.float32)
        beyond = np.maximum(value - cv2.dilate(level, around), cv2.erode(level, around) - value)
        beyond = cv2.GaussianBlur(beyond.max(-1).clip(0.0), (0, 0), 1.2)
        return beyond - np.maximum(DIFFERENCE, DEVIATIONS * self.deviation)

    def region(self, picture: np.ndarray) -> Region | None:
        """
        What differs most.

        :param picture: (h, w, 3) uint8.
        :return: with its pixels; ``None`` where nothing differs.
        """
        excess = self.difference(picture)
        found = cv2.morphologyEx((excess > 0).astype(np.uint8), cv2.MORPH_CLOSE,
                                 np.ones((GAP, GAP), np.uint8))
        count, label, stats, _ = cv2.connectedComponentsWithStats(found)
        if count < 2:
            return None
        weight = np.bincount(label.ravel(), excess.clip(0.0).ravel(), minlength=count)
        weight[0] = 0.0
        boxes = stats[:, :4].astype(float)
        height, width = excess.shape
        rim = ((boxes[:, 0] <= 0) | (boxes[:, 1] <= 0) | (boxes[:, 0] + boxes[:, 2] >= width)
               | (boxes[:, 1] + boxes[:, 3] >= height))
        # A hand or a shadow at the rim, unless there is nothing else.
        largest = int(np.where(rim, 0.5 * weight, weight).argmax())
        low, high = boxes[largest, :2], boxes[largest, :2] + boxes[largest, 2:]
        near, mask = NEAR * (high - low).max(), label == largest
        for k in range(1, count):
            start, end = boxes[k, :2], boxes[k, :2] + boxes[k, 2:]
            apart = np.maximum(start - high, low - end).max()
            if weight[k] >= PART * weight[largest] and apart <= near:
                low, high = np.minimum(low, start), np.maximum(high, end)
                mask |= label == k
        box = float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
        return Region(box, mask.astype(np.uint8))


def looked_at(rgb: np.ndarray) -> np.ndarray:
    """
    Shrink a picture to the size at which it is compared.

    :param rgb: (H, W, 3) uint8.
    :return: the same with at most ``LOOK_SIDE`` pixels along a side.
    """
    scale = LOOK_SIDE / max(rgb.shape[:2])
    if scale >= 1.0:
        return rgb
    sides = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA)
