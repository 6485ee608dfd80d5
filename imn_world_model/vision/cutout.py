"""
An object apart from what it stands before: found in a picture, left alone in it, taken out of it.

GrabCut (Rother et al. 2004, OpenCV's ``grabCut``) needs no more than a box about the object. The
same in training and on the robot.
"""
import cv2
import numpy as np

# A cut-out of less or more of the picture than this is no object.
SMALLEST, LARGEST = 0.04, 0.9
GRABCUT_ROUNDS = 4
# Parts with less than this share of the largest part's area are specks.
PART = 0.1
# Share of each side that an object keeps free: what boxes are cut with, or a picture's rim.
MARGIN = 0.06
# Objects are cut out, and holes filled, at this size at most: a larger cut-out is no better.
CUT_SIDE = 64
# What an object that is left alone stands before.
GREY = 127
# A turned object's longer side, as a share of the picture's.
FILLED = 0.85


def cut_out(image: np.ndarray, margin: float) -> np.ndarray:
    """
    Find the object's pixels.

    :param image: (S, S, 3) uint8, with the object within all sides' ``margin``.
    :param margin: share of each side beyond the object's box, above 0.
    :return: (S, S) float32 in [0, 1]; all ones where no object stands out.
    """
    full, side = image.shape[0], min(image.shape[0], CUT_SIDE)
    image = _resized(image, side)
    edge = max(1, round(margin * side))
    mask = np.zeros((side, side), np.uint8)
    box = edge, edge, side - 2 * edge, side - 2 * edge
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(np.ascontiguousarray(image), mask, box, np.zeros((1, 65)), np.zeros((1, 65)),
                    GRABCUT_ROUNDS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:                                 # one colour only
        return np.ones((full, full), np.float32)
    found = _without_specks((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    if not SMALLEST < found.mean() < LARGEST:
        return np.ones((full, full), np.float32)
    return _resized(cv2.GaussianBlur(found, (0, 0), side / 90), full)


def _without_specks(found: np.ndarray) -> np.ndarray:
    """:return: (S, S) float32, what was found, without parts much smaller than the largest."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    area[0] = 0.0
    return (area >= max(1.0, PART * area.max()))[label].astype(np.float32)


def behind(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """:return: (S, S, 3) uint8, the picture without what :func:`cut_out` found."""
    hole = cv2.dilate((mask > 0.05).astype(np.uint8), np.ones((5, 5), np.uint8))
    if hole.all():
        return image
    side = min(len(image), CUT_SIDE)
    small_hole = (_resized(hole, side) > 0).astype(np.uint8)
    filled = cv2.inpaint(_resized(image, side), small_hole, 3, cv2.INPAINT_TELEA)
    if side == len(image):
        return filled
    return np.where(hole[..., None] > 0, _resized(filled, len(image)), image)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """:return: a square picture (S, S, ...) as (side, side, ...)."""
    if len(image) == side:
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if side < len(image) else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=how)


def alone(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """
    The object before plain grey.

    :param image: (S, S, 3) uint8.
    :param mask: (S, S) float32 in [0, 1], of the object.
    :return: (S, S, 3) uint8.
    """
    share = mask[..., None]
    return np.rint(image * share + GREY * (1.0 - share)).astype(np.uint8)


def covered(image: np.ndarray) -> np.ndarray:
    """:return: (..., S, S) float32, 1 where pictures (..., S, S, 3) of :func:`alone` show it."""
    return (image != GREY).any(-1).astype(np.float32)


def along(image: np.ndarray) -> np.ndarray:
    """
    Turn an object so that its longest axis lies level, and let it fill the picture.

    Which end comes left follows from how its pixels are spread along the axis (their third
    moment).

    :param image: (S, S, 3) uint8 that :func:`alone` made.
    :return: (S, S, 3) uint8; the picture as it is where it shows too little.
    """
    side = len(image)
    place = np.argwhere(covered(image) > 0)[:, ::-1].astype(np.float64)       # x, y
    if len(place) < SMALLEST * side:
        return image
    middle = place.mean(0)
    _, axes = np.linalg.eigh(np.cov((place - middle).T))
    level = axes[:, 1]
    if (((place - middle) @ level) ** 3).sum() < 0:
        level = -level
    turn = np.array([level, [-level[1], level[0]]])
    across = (place - middle) @ turn.T
    low, high = across.min(0), across.max(0)
    scale = FILLED * side / max(1.0, (high - low).max())
    shift = side / 2 - 0.5 - scale * (turn @ middle + (low + high) / 2)
    matrix = np.hstack((scale * turn, shift[:, None]))
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR,
                                     borderValue=(GREY,) * 3), np.uint8)
