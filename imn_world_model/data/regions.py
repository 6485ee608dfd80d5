"""Where in a log's pictures objects are: from boxes in the log, or from what differs."""
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.boxes import Detected
from imn_world_model.data.moving import from_motion, moves
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.sources import read_frames
from imn_world_model.vision.background import Background, looked_at
from imn_world_model.vision.regions import Box, Region

Finder = Callable[[RawFrame, np.ndarray], Region | None]

# Pictures that the background is the median of.
SAMPLE = 100


@dataclass(frozen=True)
class Regions:
    """
    How objects are found in pictures.

    :param boxes: topic of a detector's boxes, or of JSON strings with ``box``: x, y, width, height
        in pixels; ``None`` without one.
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


def _from_topic(source: Source, topics: tuple[str, ...], topic: str) -> Finder:
    detected = Detected(source.path, topic) if source.kind == 'bag' else None
    if detected:
        def of_detector(frame: RawFrame, rgb: np.ndarray) -> Region | None:
            box = detected.largest(frame)
            return Region(box) if box else None
        return of_detector
    report = SourceReport()
    for _ in read_frames(source, topics, topic, report):
        pass
    boxes: dict[int, Box] = {}
    for stamp, labels in report.truth.items():
        box: list[float] = labels.get('box') or []
        if len(box) == 4:
            boxes[stamp] = float(box[0]), float(box[1]), float(box[2]), float(box[3])
    if not boxes:
        raise UserError(f'{source.path}: no boxes in {topic}; give the topic of a '
                        'Detection2DArray (vision_msgs 4) or a RegionOfInterest, or of JSON '
                        "strings with 'stamp' and 'box' (x, y, width, height)")

    def find(frame: RawFrame, rgb: np.ndarray) -> Region | None:
        box = boxes.get(frame.truth_key) or boxes.get(frame.stamp)
        return Region(box) if box else None
    return find


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
            picture = looked_at(frame.load(None))
        except UserError:                             # counted when it is decoded for use
            continue
        if place < len(sample[frame.topic]):
            sample[frame.topic][place] = picture
        else:
            sample[frame.topic].append(picture)
    backgrounds = {
        topic: Background.of(np.stack([p for p in pictures if p.shape == pictures[0].shape]))
        for topic, pictures in sample.items()}
    moving = {topic for topic, pictures in sample.items() if moves(pictures)}
    in_motion = from_motion(source, topics, sequences, moving) if moving else None

    def find(frame: RawFrame, rgb: np.ndarray) -> Region | None:
        if in_motion is not None and frame.topic in moving:
            return in_motion(frame, rgb)
        background, picture = backgrounds.get(frame.topic), looked_at(rgb)
        if background is None or picture.shape != background.level.shape:
            return None
        region = background.region(picture)
        if region is None:
            return None
        scale = rgb.shape[1] / picture.shape[1]
        x, y, width, height = (scale * value for value in region.box)
        return Region((x, y, width, height), region.mask)
    return find
