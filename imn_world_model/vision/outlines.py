"""
The outlines of objects in one picture: around what moved, or by the colours of the picture's rim.

Needs neither torch nor ROS.
"""
import cv2
import numpy as np

# Pixels: specks that are left out; about all that may be an object, from which the background's
# colours are learnt.
SPECK, AROUND = 3, 12
GRABCUT_ROUNDS = 1
# An outline of less than this share of what moved is none.
LEAST_OUTLINE = 0.2
# Colours of the rim, its width in pixels, their least share and least variance (squared levels).
# Nothing nearer to them than so many standard deviations is an object.
RIM_COLOURS, RIM, RIM_SHARE, RIM_VARIANCE = 6, 5, 0.03, 40.0
LEAST_DISTANCE = 1.0
# Objects fade towards the rim: half widths, and height of the middle.
SPREAD, MIDDLE = 0.45, 0.55


def outline(picture: np.ndarray, seed: np.ndarray, near: np.ndarray, each: bool) -> np.ndarray:
    """
    Draw the outlines of what differs.

    :param picture: (h, w, 3) uint8.
    :param seed: (h, w) bool, what probably is an object.
    :param near: (h, w) bool, beyond which there certainly is none.
    :param each: whether each part of it is drawn by itself, with the colours about it: an object
        may look like the background elsewhere. Else all are drawn with the same colours, and what
        light and shadow changed here and there is told by its like.
    :return: (h, w) bool.
    """
    found = np.zeros(seed.shape, bool)
    count, place, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
    parts = ([(place == k, stats[k, :4]) for k in range(1, count)] if each
             else [(near, cv2.boundingRect(near.astype(np.uint8)))])
    for own, (x, y, width, height) in parts:
        part = (slice(max(0, y - AROUND), y + height + AROUND),
                slice(max(0, x - AROUND), x + width + AROUND))
        found[part] |= _one_outline(picture[part], seed[part] & own[part], own[part])
    return found


def _one_outline(picture: np.ndarray, seed: np.ndarray, near: np.ndarray) -> np.ndarray:
    """:return: (h, w) bool, the outline; what differs where its colours are those about it."""
    if not seed.any() or seed.all():
        return np.zeros(seed.shape, bool)
    kind = np.where(seed, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    kind[~near] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(np.ascontiguousarray(picture), kind, (0, 0, 0, 0), np.zeros((1, 65)),
                    np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:                                 # one colour only
        return seed
    drawn = ((kind == cv2.GC_FGD) | (kind == cv2.GC_PR_FGD)) & near
    found = cv2.morphologyEx(drawn.astype(np.uint8), cv2.MORPH_OPEN,
                             np.ones((SPECK, SPECK), np.uint8))
    return found > 0 if found.sum() >= LEAST_OUTLINE * seed.sum() else seed


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
