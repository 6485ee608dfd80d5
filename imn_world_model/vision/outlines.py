"""
The outlines of objects in one picture: around what moved, or by the colours of the picture's rim.

Needs neither torch nor ROS.
"""
from collections.abc import Sequence

import cv2
import numpy as np

# Pixels: specks that are left out; about all that may be an object, from which the background's
# colours are learnt.
SPECK, AROUND = 3, 12
# Colours of an object and of what is about it: Gaussians each, pixels that they are fitted on at
# most, variance (squared grey levels) that is added.
COLOURS, SAMPLES, NOISE = 5, 300, 1.0
# What OpenCV keeps of a mixture: weights, means and covariances of so many Gaussians.
_ROOM = 5
# An outline of less than this share of what moved is none.
LEAST_OUTLINE = 0.2
# Colours of the rim, its width in pixels, their least share and least variance (squared levels).
# Nothing nearer to them than so many standard deviations is an object.
RIM_COLOURS, RIM, RIM_SHARE, RIM_VARIANCE = 6, 5, 0.03, 40.0
LEAST_DISTANCE = 1.0
# Objects fade towards the rim: half widths, and height of the middle.
SPREAD, MIDDLE = 0.45, 0.55


def outline(picture: np.ndarray, seed: np.ndarray, near: np.ndarray, each: bool,
            sure: np.ndarray | None = None) -> np.ndarray:
    """
    Draw the outlines of what differs.

    :param picture: (h, w, 3) uint8.
    :param seed: (h, w) bool, what probably is an object.
    :param near: (h, w) bool, beyond which there certainly is none.
    :param each: whether each part of it is drawn by itself, with the colours about it: an object
        may look like the background elsewhere. Else all are drawn with the same colours, and what
        light and shadow changed here and there is told by its like.
    :param sure: (h, w) bool, what certainly is an object, whatever its colours.
    :return: (h, w) bool.
    """
    found = np.zeros(seed.shape, bool)
    certain = np.zeros(seed.shape, bool) if sure is None else sure
    count, place, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
    everything = _about(cv2.boundingRect(near.astype(np.uint8)))
    common = None if each else _both_colours(picture, seed, everything)
    for k in range(1, count):
        own = place == k
        mine = seed & own
        if mine.any():
            colours = common or _both_colours(picture, mine, _about(stats[k, :4]))
            part = _about(stats[k, :4], 1)
            drawn = _one_outline(picture[part], mine[part], certain[part], own[part], colours)
            enough = not each or drawn.sum() >= LEAST_OUTLINE * mine.sum()
            found[part] |= drawn if enough else mine[part]
    return found if each or found.sum() >= LEAST_OUTLINE * seed.sum() else seed


def _about(box: Sequence[int] | np.ndarray, margin: int = AROUND) -> tuple[slice, slice]:
    """:return: rows and columns of a box (x, y, width, height) and so many pixels about it."""
    x, y, width, height = (int(value) for value in box)
    return (slice(max(0, y - margin), y + height + margin),
            slice(max(0, x - margin), x + width + margin))


def _both_colours(picture: np.ndarray, seed: np.ndarray, part: tuple[slice, slice]
                  ) -> tuple[np.ndarray, np.ndarray]:
    """:return: the colours of what is not and of what is an object, as GrabCut takes them."""
    seen, thing = picture[part], seed[part]
    return _colours(seen[~thing]), _colours(seen[thing])


def _colours(pixels: np.ndarray) -> np.ndarray:
    """
    Fit a mixture of Gaussians: GrabCut's own fit takes longer than all else and tells no more.

    :param pixels: (K, 3) uint8.
    :return: (1, 65), as OpenCV's GrabCut takes it; zeros for no pixels.
    """
    sample = np.ascontiguousarray(pixels[::1 + len(pixels) // SAMPLES], np.float32)
    mixture = np.zeros((1, 13 * _ROOM))
    weight, mean, spread = np.split(mixture[0], (_ROOM, 4 * _ROOM))
    if not len(sample):
        return mixture
    cv2.setRNGSeed(0)
    count = min(COLOURS, len(sample))
    _, which, _ = cv2.kmeans(sample, count, np.zeros((len(sample), 1), np.int32), (3, 6, 1.0), 1,
                             cv2.KMEANS_PP_CENTERS)
    for k in range(count):
        own = sample[which[:, 0] == k]
        weight[k] = len(own) / len(sample)
        if len(own):
            middle = own.mean(0)
            off = own - middle
            mean[3 * k:3 * k + 3] = middle
            spread[9 * k:9 * k + 9] = (off.T @ off / len(own) + NOISE * np.eye(3)).ravel()
    return mixture


def _one_outline(picture: np.ndarray, seed: np.ndarray, sure: np.ndarray, near: np.ndarray,
                 colours: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """:return: (h, w) bool, what has an object's colours rather than those about it."""
    if not colours[0].any():                          # nothing is known of what is no object
        return np.zeros(seed.shape, bool)
    kind = np.where(seed, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    kind[sure] = cv2.GC_FGD
    kind[~near] = cv2.GC_BGD
    cv2.grabCut(np.ascontiguousarray(picture), kind, (0, 0, 0, 0), colours[0].copy(),
                colours[1].copy(), 1, cv2.GC_EVAL_FREEZE_MODEL)
    drawn = ((kind == cv2.GC_FGD) | (kind == cv2.GC_PR_FGD)) & near
    found = cv2.morphologyEx(drawn.astype(np.uint8), cv2.MORPH_OPEN,
                             np.ones((SPECK, SPECK), np.uint8))
    return found > 0


def by_rim(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find what has none of the rim's colours; results as of a comparison with the background:
    evidence (h, w) float32; (h, w) bool, where objects may be; the same, where an outline may run.

    :param picture: (h, w, 3) uint8.
    """
    height, width = picture.shape[:2]
    colours = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab = cv2.bilateralFilter(colours, 5, 12, 3)
    inner = np.zeros((height, width), bool)
    inner[RIM:-RIM, RIM:-RIM] = True
    rim = lab[~inner]
    cv2.setRNGSeed(0)
    _, which, centres = cv2.kmeans(rim, RIM_COLOURS, np.zeros((len(rim), 1), np.int32),
                                   (3, 12, 1.0), 1, cv2.KMEANS_PP_CENTERS)
    distance = np.full((height, width), np.inf, np.float32)
    for k, centre in enumerate(centres):
        own = rim[which[:, 0] == k]
        if len(own) >= RIM_SHARE * len(rim):
            spread = np.linalg.inv(np.cov(own.T) + RIM_VARIANCE * np.eye(3))
            away = lab - centre
            distance = np.minimum(distance, ((away @ spread) * away).sum(-1))
    y, x = np.mgrid[:height, :width]
    middle = np.exp(-((x / width - 0.5) / SPREAD) ** 2 - ((y / height - MIDDLE) / SPREAD) ** 2)
    clear = cv2.GaussianBlur((np.sqrt(distance) * middle).astype(np.float32), (0, 0), 1.5)
    levels = (clear / max(1e-6, clear.max()) * 255).astype(np.uint8)
    _, seed = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    seed[clear < LEAST_DISTANCE] = 0
    seed = cv2.morphologyEx(seed, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8))
    near = np.zeros((height, width), bool)
    near[2:-2, 2:-2] = True
    return clear, seed > 0, near
