"""
Things of one pure colour each before a background of few colours, in one picture alone.

Blocks on a plain floor, as in many laboratories and simulators, are told from it and from each
other by colour whatever the camera does, and where they touch or hide each other. Light and
shadow scale all three colours of a surface alike, so logarithms are compared: of them their mean
counts little. Other pictures, photographs of most things, are said to be of another kind.

Needs neither torch nor ROS.
"""
from dataclasses import dataclass

import cv2
import numpy as np

# Grey levels added before the logarithm, against noise in the dark; weight of the mean.
DARK, LIGHT = 4.0, 0.25
# Colours of the rim, its width in pixels, the least share of it of a colour of the background,
# least standard deviation of these (in natural logarithms).
RIM_COLOURS, RIM, RIM_SHARE, RIM_DEVIATION = 6, 5, 0.03, 0.05
# Standard deviations from all of the background's colours, from which on something is a thing.
APART = 4.0
# Colours that are looked for in things; those nearer to each other than this are one. How pure a
# colour is counts so much of how far apart two hues are: light and shadow change it.
COLOURS, SAME, PURITY = 8, 0.4, 0.5
# A part is the neighbour's, as a gloss is, where this share of its rim is; where the neighbour has
# its hue, within so many radians, less will do; and where it is smaller than this share of the
# picture.
SURROUNDED, BESIDE, ALIKE, SMALLEST = 0.5, 0.1, 0.2, 0.002
# Least side in pixels; least share of the clearest thing's evidence; how many.
NARROW, CLEAR, MOST = 3, 0.03, 8
# The picture is of this kind when the rim's colours vary by so little, when things are so far from
# them (median), and when this share of the things is of pure colours: so far from grey, with a
# spread (median) of this share of it. Things that fill less than this share of the picture do not
# tell: they may be marks on something pale.
EVEN, FAR, SHARE = 0.028, 9.0, 0.7
PURE, SPREAD = 0.4, 0.1
FILLED = 0.015
# Two axes of colour and the mean, of logarithms of red, green and blue.
_AXES = np.array([[1 / 2 ** 0.5, -1 / 2 ** 0.5, 0.0], [1 / 6 ** 0.5, 1 / 6 ** 0.5, -2 / 6 ** 0.5],
                  [LIGHT / 3, LIGHT / 3, LIGHT / 3]], np.float32)
_LOGARITHM = np.log(np.arange(256, dtype=np.float32) + DARK)
_SPECK = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Things:
    """
    What a picture shows.

    :param masks: (h, w) bool of each thing, the clearest first.
    :param plain: whether the picture is of this kind; ``None`` where it shows too little to tell.
    """

    masks: list[np.ndarray]
    plain: bool | None


def coloured_things(picture: np.ndarray) -> Things:
    """
    Find things by their colours.

    :param picture: (h, w, 3) uint8 RGB, some hundred pixels wide.
    """
    if min(picture.shape[:2]) <= 2 * RIM:
        return Things([], None)
    colour = cv2.transform(cv2.LUT(cv2.medianBlur(picture, 3), _LOGARITHM), _AXES)
    off, variation, background = _from_rim(np.asarray(colour, np.float32))
    away = np.asarray(cv2.GaussianBlur(off, (0, 0), 0.7), np.float32)
    thing = cv2.morphologyEx((away > APART).astype(np.uint8), cv2.MORPH_OPEN, _SPECK) > 0
    if thing.sum() < SMALLEST * thing.size:
        return Things([], None)
    axes = np.asarray(colour, np.float32)[..., :2]
    kind = np.zeros(thing.shape, np.uint8)
    kind[thing] = _kinds(axes[thing]) + 1
    parts = [part for part in _parts(kind, axes) if not _is_shadow(colour[part], background)]
    masks = _clearest(parts, away)
    if not masks:
        return Things([], None)
    pure = sum(mask.sum() for mask in masks if _is_pure(axes[mask]))
    plain = bool(variation <= EVEN and np.median(away[thing]) >= FAR
                 and pure >= SHARE * sum(map(np.sum, masks)))
    return Things(masks, plain if not plain or thing.mean() >= FILLED else None)


def _from_rim(colour: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """
    Compare with the rim.

    :return: (h, w) float32, standard deviations from the nearest of its colours; by how much these
        vary, in logarithms; the colours (K, 3).
    """
    height, width = colour.shape[:2]
    inner = np.zeros((height, width), bool)
    inner[RIM:-RIM, RIM:-RIM] = True
    rim = colour[~inner]
    cv2.setRNGSeed(0)
    unknown = np.zeros((len(rim), 1), np.int32)
    _, which, found = cv2.kmeans(rim, min(RIM_COLOURS, len(rim)), unknown, (3, 12, 0.01), 1,
                                 cv2.KMEANS_PP_CENTERS)
    variation = np.linalg.norm((rim - found[which[:, 0]])[:, :2], axis=1).mean()
    nearest, kept = np.full((height, width), np.inf, np.float32), []
    for k, centre in enumerate(np.asarray(found, np.float64)):
        own = rim[which[:, 0] == k]
        if len(own) >= max(2, RIM_SHARE * len(rim)):
            spread = np.cov(own.T) + RIM_DEVIATION ** 2 * np.eye(3)
            whiten = np.linalg.inv(np.linalg.cholesky(spread))
            map_to: np.ndarray = np.column_stack((whiten, -whiten @ centre))
            off = np.asarray(cv2.transform(colour, map_to.astype(np.float64)), np.float32)
            nearest = np.minimum(nearest, (off * off).sum(-1))
            kept.append(centre)
    return np.sqrt(nearest), float(variation), np.array(kept).reshape(-1, 3)


def _kinds(colour: np.ndarray) -> np.ndarray:
    """
    Tell the colours of things apart.

    :param colour: (K, 2) float32.
    :return: (K,) which of the colours each has.
    """
    cv2.setRNGSeed(0)
    _, label, found = cv2.kmeans(colour, min(COLOURS, len(colour)),
                                 np.zeros((len(colour), 1), np.int32), (3, 12, 0.005), 1,
                                 cv2.KMEANS_PP_CENTERS)
    which, centres = np.asarray(label)[:, 0], np.asarray(found, np.float64)
    while len(centres) > 1:
        between = _apart(centres[:, None], centres)
        between[np.tril_indices(len(centres))] = np.inf
        one, other = np.unravel_index(between.argmin(), between.shape)
        if between[one, other] > SAME:
            break
        count = np.bincount(which, minlength=len(centres)) + 1e-6
        centres[one] = ((count[one] * centres[one] + count[other] * centres[other])
                        / (count[one] + count[other]))
        which = np.where(which == other, one, which)
        which = which - (which > other)
        centres = np.delete(centres, other, axis=0)
    return which


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """:return: (...) how far colours (..., 2) are apart; on opposite sides of grey, all of it."""
    off, middle = one - other, one + other
    total = np.linalg.norm(off, axis=-1)
    purer = (off * middle).sum(-1) / np.maximum(np.linalg.norm(middle, axis=-1), 1e-9)
    turned = np.sqrt(np.maximum(total ** 2 - purer ** 2, 0.0))
    return np.where((one * other).sum(-1) > 0, np.hypot(turned, PURITY * purer), total)


def _is_pure(colour: np.ndarray) -> bool:
    """:return: whether a thing's colours (K, 2) are one, and not grey."""
    middle = np.median(colour, axis=0)
    spread = np.median(np.linalg.norm(colour - middle, axis=1))
    return bool(PURE <= np.linalg.norm(middle) >= spread / SPREAD)


def _is_shadow(colour: np.ndarray, background: np.ndarray) -> bool:
    """:return: whether colours (K, 3) are a pure one of the background (B, 3), but darker."""
    middle = np.median(colour, axis=0)
    pure = np.linalg.norm(background[:, :2], axis=1) >= PURE
    same = np.linalg.norm(background[:, :2] - middle[:2], axis=1) < SAME
    return bool((pure & same & (middle[2] < background[:, 2])).any())


def _parts(kind: np.ndarray, axes: np.ndarray) -> list[np.ndarray]:
    """
    Cut what is of one colour into connected parts, and give the neighbour what lies in it.

    :param kind: (h, w) uint8, 0 for background.
    :param axes: (h, w, 2) float32, colours.
    :return: (h, w) bool each.
    """
    part, sizes, hues = np.zeros(kind.shape, np.int32), [0], [0.0]
    for k in np.unique(kind[kind > 0]):
        own = cv2.morphologyEx((kind == k).astype(np.uint8), cv2.MORPH_OPEN, _SPECK)
        count, label, stats, _ = cv2.connectedComponentsWithStats(own)
        part[label > 0] = label[label > 0] + len(sizes) - 1
        sizes += [int(size) for size in stats[1:, cv2.CC_STAT_AREA]]
        hues += [float(np.arctan2(*np.median(axes[label == j], axis=0))) for j in range(1, count)]
    turned = np.abs(np.angle(np.exp(1j * np.subtract.outer(hues, hues))))
    for k in sorted(range(1, len(sizes)), key=sizes.__getitem__):
        own = part == k
        rim = part[(cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~own]
        beside = np.bincount(rim, minlength=len(sizes))
        beside[0] = 0
        alike = np.where(turned[k] <= ALIKE, beside, 0)
        same = alike.max() >= BESIDE * len(rim) > 0
        nearest = int((alike if same else beside).argmax())
        small = sizes[k] < SMALLEST * kind.size and beside[nearest] > 0
        if small or same or beside[nearest] >= SURROUNDED * len(rim) > 0:
            part[own] = nearest
            sizes[nearest] += sizes[k]
            sizes[k] = 0
    return [part == k for k, size in enumerate(sizes) if size >= SMALLEST * kind.size]


def _clearest(masks: list[np.ndarray], away: np.ndarray) -> list[np.ndarray]:
    """:return: the masks that are no slivers and clear enough, the clearest first."""
    wide = [mask for mask in masks if min(np.ptp(np.nonzero(mask), axis=1)) + 1 >= NARROW]
    evidence = [float(away[mask].sum()) for mask in wide]
    order = sorted(range(len(wide)), key=evidence.__getitem__, reverse=True)[:MOST]
    return [wide[k] for k in order if evidence[k] >= CLEAR * evidence[order[0]]]
