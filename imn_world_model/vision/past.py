"""
The background before which things move, from pictures of a camera that may move, too.

Pictures of the past are kept with the similarity that lays each over the newest one; the
background is what most of them agree on, leaving out where objects were.

Needs neither torch nor ROS.
"""
from dataclasses import dataclass

import cv2
import numpy as np

# Pictures of the past that are kept; more cost time and know a little more.
KEPT = 8
# Grey levels that light and noise may change; levels beyond which a deviation is not counted.
SAME, WILD = 12.0, np.uint8(20)
# Weight of a kept picture where an object was in it.
COVERED = 0.15
# The same where the object is proven, before a camera at rest: its place is not its ground.
COVERED_FOR_SURE = 0.02
# A picture is kept when the camera has moved by this share of its side.
MOVED = 0.02
# Light is compared at every so many pixels.
SPARSE = 3
# By the difference in grey levels.
_LIKENESS = np.exp(-(np.arange(256, dtype=np.float32) / np.float32(SAME)) ** 2)


@dataclass
class Kept:
    """
    A picture of the past.

    :param picture: (h, w, 3) uint8.
    :param objects: (h, w) uint8, 255 where objects are.
    :param proven: (h, w) uint8, 255 where objects are that something has moved or come to be.
    :param place: (3, 3), from its pixels to those of the newest kept picture.
    :param weight: where no object was.
    """

    picture: np.ndarray
    objects: np.ndarray
    proven: np.ndarray
    place: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Background:
    """
    What is known of the background, in the newest kept picture's pixels.

    :param level: (h, w, 3) float32, grey levels.
    :param known: (h, w) float32, how much of the past it rests on; 0 for nothing.
    :param deviation: (h, w) float32, mean deviation of the kept pictures from it.
    :param free: (h, w) float32, the same of pictures without an object there.
    :param objects: (h, w) uint8, 255 where the past has seen nothing but objects.
    :param proven: (h, w) uint8, as of the newest kept picture.
    :param rest: whether the camera stands still.
    """

    level: np.ndarray
    known: np.ndarray
    deviation: np.ndarray
    free: np.ndarray
    objects: np.ndarray
    proven: np.ndarray
    rest: bool


def laid_over(past: list[Kept]) -> Background:
    """
    Tell the background from pictures of it: what most of them agree on.

    :param past: the newest last.
    """
    picture = past[-1].picture
    height, width = picture.shape[:2]
    level = np.empty((len(past), height, width, 3), np.uint8)
    weight = np.empty((len(past), height, width), np.float32)
    rest = all(shift(each.place, width, height) < MOVED * width for each in past)
    covered_always = np.ones((height, width), bool)
    for k, each in enumerate(past):
        moved = displaced(each.picture, each.place)
        seen = displaced(np.full((height, width), 255, np.uint8), each.place) == 255
        level[k] = cv2.multiply(moved, np.append(gain(picture, moved, seen), 0.0))
        covered = displaced(each.objects, each.place) > 0
        covered_always &= covered | ~seen
        weight[k] = np.where(seen, np.where(covered, COVERED, each.weight), 0.0)
        if rest:
            weight[k][covered & (each.proven > 0)] = COVERED_FOR_SURE
    half = width // 2, height // 2
    coarse = [cv2.resize(each, half, interpolation=cv2.INTER_AREA) for each in level]
    share = [cv2.resize(each, half, interpolation=cv2.INTER_NEAREST) for each in weight]
    vote = np.stack(share)
    for i in range(len(past)):
        for j in range(i + 1, len(past)):
            alike = likeness(coarse[i], coarse[j])
            vote[i] += alike * share[j]
            vote[j] += alike * share[i]
    vote[np.stack(share) == 0] = -1.0
    best = cv2.resize(vote.argmax(0).astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST)
    chosen = np.zeros_like(picture)
    for k, each in enumerate(level):
        cv2.copyTo(each, (best == k).astype(np.uint8), chosen)
    mean = np.zeros((height, width, 3), np.float32)
    known, open_to_view = np.zeros((2, height, width), np.float32)
    free = np.where(weight > COVERED, weight, 0.0)
    for each, share_of_it, in_view in zip(level, weight, free):
        alike = likeness(each, chosen)
        near = alike * share_of_it
        known += near
        open_to_view += alike * in_view
        mean += cv2.multiply(cv2.merge([near] * 3), each, dtype=cv2.CV_32F)
    mean /= np.maximum(known, 1e-6)[..., None]
    hidden = covered_always & (known > 0) & rest
    if len(past) == KEPT:
        # So much has moved meanwhile: what never did is no object.
        hidden &= past[-1].proven > 0
    whole = np.rint(mean).astype(np.uint8)
    deviation = np.zeros((height, width), np.float32)
    for each, in_view in zip(level, free):
        deviation += np.minimum(most(cv2.absdiff(each, whole)), WILD) * in_view
    deviation /= np.maximum(free.sum(0), 1e-6)
    return Background(mean, known, deviation, open_to_view, hidden.astype(np.uint8) * 255,
                      past[-1].proven, rest)


def shift(place: np.ndarray, width: int, height: int) -> float:
    """:return: pixels by which the corners of a picture move at most."""
    corner = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    return float(np.abs(corner @ place.T - corner).max())


def displaced(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """:return: an image whose pixels were moved; 0 where none came from."""
    return np.asarray(cv2.warpAffine(values, place[:2], values.shape[1::-1]))


def gain(picture: np.ndarray, level: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """:return: (3,) float32, how much brighter each colour of a picture is than another."""
    seen = seen[::SPARSE, ::SPARSE]
    if not seen.any():
        return np.ones(3, np.float32)
    ratio = (picture[::SPARSE, ::SPARSE][seen] + 1.0) / (level[::SPARSE, ::SPARSE][seen] + 1.0)
    return np.median(ratio, axis=0).astype(np.float32)


def most(values: np.ndarray) -> np.ndarray:
    """:return: (h, w), the largest of three colours (h, w, 3)."""
    red, green, blue = cv2.split(values)
    return np.maximum(np.maximum(red, green), blue)


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """:return: (h, w) float32 in [0, 1], how much two pictures (h, w, 3) uint8 are the same."""
    return np.asarray(cv2.LUT(most(cv2.absdiff(one, other)), _LIKENESS))
