"""
Where in a picture the object is: from boxes in the log, or from what differs from the background.

Where the camera stands still, the median of its pictures is the background, and the object is what
differs from it by more than light, noise and a shaking camera explain. Where it moves, see
:mod:`proposals`.
"""
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.sources import read_frames
from imn_world_model.errors import UserError
from imn_world_model.preprocess import Crop, left_alone

Box = tuple[float, float, float, float]
Finder = Callable[[RawFrame, np.ndarray], 'Region | None']

# Pictures are cut and left as they are.
KEPT = Crop()
# A region is the square about a box, longer than its longer side by this factor.
MARGIN = 1.2
SMALLEST = 8.0
# Pictures are looked at with at most so many pixels along a side.
LOOK_SIDE = 320
# Pictures that the background is the median of.
SAMPLE = 100
# Pixels by which the camera may shake; grey levels, and multiples of a pixel's own median
# deviation, that are no object.
SHAKE = 5
DIFFERENCE, DEVIATIONS = 10.0, 3.0
# Gaps in an object up to so many pixels are closed; parts with this share of the largest part's
# difference, and no further away than this share of its size, belong to it.
GAP = 9
PART, NEAR = 0.1, 0.5


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


@dataclass(frozen=True)
class Regions:
    """
    How objects are found in pictures.

    :param boxes: topic of JSON strings with ``box``: x, y, width, height in pixels; ``None``
        without one.
    :param auto: whether to look for what differs from the background, or moves before it.
    """

    boxes: str | None = None
    auto: bool = False

    def __post_init__(self) -> None:
        if self.boxes and self.auto:
            raise UserError('--boxes and --regions auto exclude each other; give one')

    def __bool__(self) -> bool:
        return bool(self.boxes or self.auto)


def finder(source: Source, topics: tuple[str, ...], regions: Regions,
           sequences: str = 'auto') -> Finder | None:
    """
    Go through a source once to learn where objects are.

    :param source: of kind ``bag``, ``video`` or ``images``.
    :param topics: globs of its image topics.
    :param regions: how.
    :param sequences: which images follow each other, see :func:`sequences.arrange`.
    :return: from a frame and its (H, W, 3) uint8 picture to the region, or ``None`` where nothing
        was found; ``None`` where whole pictures are used.
    :raises UserError: when the topic has no boxes.
    """
    if regions.boxes:
        return _from_topic(source, topics, regions.boxes)
    return _from_background(source, topics, sequences) if regions.auto else None


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


def _square(rgb: np.ndarray, box: Box, size: int, border: int) -> np.ndarray:
    x, y, width, height = box
    side = max(1, round(max(width, height, SMALLEST) * MARGIN))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
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


def _from_topic(source: Source, topics: tuple[str, ...], topic: str) -> Finder:
    report = SourceReport()
    for _ in read_frames(source, topics, topic, report):
        pass
    boxes: dict[int, Box] = {}
    for stamp, labels in report.truth.items():
        box: list[float] = labels.get('box') or []
        if len(box) == 4:
            boxes[stamp] = float(box[0]), float(box[1]), float(box[2]), float(box[3])
    if not boxes:
        raise UserError(f'{source.path}: no boxes in {topic}; give the topic of JSON strings '
                        "with 'stamp' and 'box' (x, y, width, height)")

    def find(frame: RawFrame, rgb: np.ndarray) -> Region | None:
        box = boxes.get(frame.truth_key) or boxes.get(frame.stamp)
        return Region(box) if box else None
    return find


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


def _from_background(source: Source, topics: tuple[str, ...], sequences: str) -> Finder:
    rng = np.random.default_rng(0)
    sample: dict[str, list[np.ndarray]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for frame in read_frames(source, topics, None, SourceReport(), sequences=sequences):
        number = seen[frame.topic]
        seen[frame.topic] += 1
        place = number if number < SAMPLE else int(rng.integers(number + 1))
        if place >= SAMPLE:
            continue
        try:
            picture = _small(frame.load(None))
        except UserError:                             # counted when it is decoded for use
            continue
        if place < len(sample[frame.topic]):
            sample[frame.topic][place] = picture
        else:
            sample[frame.topic].append(picture)
    backgrounds = {
        topic: Background.of(np.stack([p for p in pictures if p.shape == pictures[0].shape]))
        for topic, pictures in sample.items()}
    # Here, for what it needs comes from this file.
    from imn_world_model.data.moving import from_motion, moves
    moving = {topic for topic, pictures in sample.items() if moves(pictures)}
    in_motion = from_motion(source, topics, sequences, moving) if moving else None

    def find(frame: RawFrame, rgb: np.ndarray) -> Region | None:
        if in_motion is not None and frame.topic in moving:
            return in_motion(frame, rgb)
        background, picture = backgrounds.get(frame.topic), _small(rgb)
        if background is None or picture.shape != background.level.shape:
            return None
        region = background.region(picture)
        if region is None:
            return None
        scale = rgb.shape[1] / picture.shape[1]
        x, y, width, height = (scale * value for value in region.box)
        return Region((x, y, width, height), region.mask)
    return find


def _small(rgb: np.ndarray) -> np.ndarray:
    scale = LOOK_SIDE / max(rgb.shape[:2])
    if scale >= 1.0:
        return rgb
    sides = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA)
