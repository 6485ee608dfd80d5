"""Objects in the recordings of a camera that moves: found once, in the order of the pictures."""
from collections.abc import Callable

import cv2
import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.sources import read_frames
from imn_world_model.vision.proposals import Proposals
from imn_world_model.vision.regions import Region

# Of a camera's pictures so many are left out between two that are looked at; a picture's side, in
# pixels, from which on flow can be told; share of its width that is more than shaking.
STRIDE, LEAST_SIDE, SHIFT = 5, 16, 0.01

Key = tuple[str, int, int, int]


def moves(pictures: list[np.ndarray]) -> bool:
    """
    Tell whether a camera moved between its pictures.

    :param pictures: (h, w, 3) uint8 each.
    :return: whether most of most pictures lies elsewhere than in the first.
    """
    first, *others = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures[::STRIDE]
                      if picture.shape == pictures[0].shape]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    shifts = [np.median(np.linalg.norm(flow.calc(first, other, np.zeros((*other.shape, 2),
                                                                        np.float32)), axis=-1))
              for other in others if min(other.shape) >= LEAST_SIDE]
    return bool(shifts) and bool(np.median(shifts) > SHIFT * first.shape[1])


def from_motion(source: Source, topics: tuple[str, ...], sequences: str, cameras: set[str]
                ) -> Callable[[RawFrame, np.ndarray], Region | None]:
    """
    Go through a source as a robot would, and remember the clearest object of each picture.

    :param source: of kind ``bag``, ``video`` or ``images``.
    :param topics: globs of its image topics.
    :param sequences: which images follow each other, see :func:`sequences.arrange`.
    :param cameras: the topics of those that move.
    :return: from a frame and its picture to the region; ``None`` where nothing was found.
    """
    proposals = {topic: Proposals() for topic in cameras}
    found: dict[Key, tuple[Region, np.ndarray, int]] = {}
    for frame in read_frames(source, topics, None, SourceReport(), sequences=sequences):
        if frame.topic not in cameras:
            continue
        try:
            regions = proposals[frame.topic](frame.load(None))
        except UserError:                             # counted when it is decoded for use
            continue
        for region in regions[:1]:
            assert region.mask is not None
            # A bit for a pixel: logs are long.
            found[_key(frame)] = (Region(region.box), np.packbits(region.mask, axis=1),
                                  region.mask.shape[1])

    def find(frame: RawFrame, rgb: np.ndarray) -> Region | None:
        if not (frame.stamp or frame.truth_key):      # single pictures: their colours tell
            return next(iter(Proposals()(rgb)), None)
        known = found.get(_key(frame))
        if known is None:
            return None
        region, packed, width = known
        return Region(region.box, np.unpackbits(packed, axis=1, count=width))
    return find


def _key(frame: RawFrame) -> Key:
    return frame.topic, frame.clip, frame.stamp, frame.truth_key
