"""
Where objects are, told at once: those of an earlier picture are followed, the search comes after.

A search takes as long as a small model's whole answer (:mod:`proposals`). Between two pictures of
a running camera things hardly move, so each is found again by its own picture (normalized
correlation), and the search of the same picture, for which nobody waits, says what the next one
begins with: no error adds up, and what comes into view is told one picture later. Where there is
no time to search every picture, some are only followed. Where a thing is not found again, or too
much time has gone by, the search comes first.

Needs neither torch nor ROS.
"""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.vision.proposals import Proposals, looked_at
from imn_world_model.vision.regions import Region

# Seconds between two pictures within which things are followed, and those after a search within
# which another one may wait.
SOON, OVERDUE = 0.15, 0.25
# Pixels of what is looked at: how far a thing may move, how much of its surroundings belong to its
# picture; above this side its picture is made coarser.
REACH, RIM, COARSE = 8, 2, 32
# Correlation with which a thing is found again.
ALIKE = 0.8

Way = tuple[float, float]


@dataclass(frozen=True)
class _Looked:
    """
    A picture as it is looked at.

    :param time: when it came, seconds.
    :param picture: (h, w, 3) uint8.
    :param across: how many times as wide the camera's picture is.
    :param down: how many times as high.
    """

    time: float
    picture: np.ndarray
    across: float
    down: float


@dataclass
class _Seen:
    """
    What a search has found.

    :param looked: its picture.
    :param regions: the objects.
    :param latest: time of the last picture in which they were followed.
    :param ways: pixels of what is looked at by which each had moved there, right and down.
    """

    looked: _Looked
    regions: list[Region]
    latest: float
    ways: list[Way]


class PromptProposals:
    """Finds the objects in the pictures of one running camera."""

    def __init__(self) -> None:
        self._search = Proposals()
        self._seen: _Seen | None = None
        # The last picture, where it was answered by following.
        self._unsearched: _Looked | None = None

    def __call__(self, time: float, rgb: np.ndarray) -> list[Region]:
        """
        Look at the camera's next picture.

        :param time: when it came, in seconds of any clock.
        :param rgb: (H, W, 3) uint8.
        :return: the objects, the clearest first, each with its pixels; none where none is seen.
        """
        picture = looked_at(rgb)
        looked = _Looked(time, picture, rgb.shape[1] / picture.shape[1],
                         rgb.shape[0] / picture.shape[0])
        regions = self._followed(looked)
        if regions is None:
            return self._searched(looked)
        self._unsearched = looked
        return regions

    def learn(self, hurry: bool = False) -> None:
        """
        Search a picture that was answered by following, and learn its background.

        :param hurry: whether to leave it, unless the last search is too long ago.
        """
        if self._unsearched is not None and self._seen is not None:
            if hurry and self._unsearched.time - self._seen.looked.time < OVERDUE:
                return
            self._searched(self._unsearched)
        if not hurry:
            self._search.learn()

    def _searched(self, looked: _Looked) -> list[Region]:
        self._unsearched = None
        regions = self._search.search(looked.picture, looked.across, looked.down)
        self._seen = _Seen(looked, regions, looked.time, [(0.0, 0.0)] * len(regions))
        return regions

    def _followed(self, looked: _Looked) -> list[Region] | None:
        """:return: the last search's objects where they are now; ``None`` where one is lost."""
        seen = self._seen
        if seen is None or not seen.regions or not 0 < looked.time - seen.latest <= SOON:
            return None
        ways, moved = [], []
        for region, before in zip(seen.regions, seen.ways):
            way = _way(seen.looked.picture, looked.picture, region, before)
            if way is None:
                return None
            x, y, width, height = region.box
            ways.append(way)
            box = x + way[0] * looked.across, y + way[1] * looked.down, width, height
            moved.append(Region(box, _shifted(region.mask, way)))
        seen.latest, seen.ways = looked.time, ways
        return moved


def _way(before: np.ndarray, now: np.ndarray, region: Region, last: Way) -> Way | None:
    """
    Find a thing again.

    :param before: (h, w, 3) uint8, where it was seen.
    :param now: the same of now.
    :param region: of the thing in the first.
    :param last: how far it had moved in the picture before this.
    :return: pixels by which it has moved right and down; ``None`` where it is lost.
    """
    assert region.mask is not None
    x, y, width, height = cv2.boundingRect(region.mask)
    rows, columns = now.shape[:2]
    left, top = max(0, x - RIM), max(0, y - RIM)
    own = before[top:y + height + RIM, left:x + width + RIM]
    first = max(0, left + round(last[0]) - REACH), max(0, top + round(last[1]) - REACH)
    end = (min(columns, left + own.shape[1] + round(last[0]) + REACH),
           min(rows, top + own.shape[0] + round(last[1]) + REACH))
    around = now[first[1]:max(0, end[1]), first[0]:max(0, end[0])]
    step = 1 + max(own.shape[:2]) // COARSE
    if step > 1:
        own, around = (cv2.resize(each, None, fx=1 / step, fy=1 / step,
                                  interpolation=cv2.INTER_AREA) if each.size else each
                       for each in (own, around))
    if around.shape[0] < own.shape[0] or around.shape[1] < own.shape[1]:
        return None
    like = cv2.matchTemplate(around, own, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(like)
    if best < ALIKE:
        return None
    return (first[0] - left + step * (column + _peak(like[row], column)),
            first[1] - top + step * (row + _peak(like[:, column], row)))


def _peak(values: np.ndarray, at: int) -> float:
    """:return: from a largest value to the top of the parabola through it, within a half."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[at - 1:at + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _shifted(mask: np.ndarray | None, way: tuple[float, float]) -> np.ndarray:
    assert mask is not None
    place = np.array([[1.0, 0.0, round(way[0])], [0.0, 1.0, round(way[1])]])
    return np.asarray(cv2.warpAffine(mask, place, mask.shape[1::-1], flags=cv2.INTER_NEAREST))
