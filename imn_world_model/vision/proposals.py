"""
Where objects are in whole pictures of a camera, without a model: they move against the background.

The background may move, too: it is followed by optical flow (DIS, Kroeger et al. 2016) and a
robust similarity, kept as pictures of the past laid over each other, and taken away. GrabCut then
draws the outline, so that neither what an object leaves behind nor its shadow counts. While
nothing is known yet, an object is what has other colours than the picture's rim.

Needs neither torch nor ROS.
"""
from dataclasses import dataclass

import cv2
import numpy as np

from imn_world_model.vision.regions import Region

# Pictures are looked at with as many pixels along their longer side.
LOOK_SIDE = 160
# Pictures of the past that are kept; more cost time and know a little more.
KEPT = 8
# Grey levels that light and noise may change, and that are certainly something else.
SAME, OTHER = 12.0, 12.0
# Multiples of a pixel's own deviation that are no object; levels beyond which one is not counted.
DEVIATIONS, WILD = 1.5, 20.0
# Weight of a kept picture where an object was in it.
COVERED = 0.15
# The same where the object is proven, before a camera at rest: its place is not its ground.
COVERED_FOR_SURE = 0.02
# Weight of a kept picture in which colours alone told objects.
BY_COLOUR = 0.2
# Share of pixels that the past must explain, or the camera looks elsewhere; share of the picture
# of which something must be known, or its colours alone decide.
EXPLAINED, KNOWN = 0.4, 0.5
# A picture is kept when the camera has moved by this share of its side, or when of the objects'
# pixels less than this share are the same.
MOVED, UNCHANGED = 0.02, 0.8
# Share of an object's pixels behind which free background is known, for it to be proven.
PROVEN = 0.25
# Pixels: gaps that are closed, how far an outline may lie beyond what moved, specks of it.
GAP, BEYOND, SPECK = 5, 7, 3
GRABCUT_ROUNDS = 2
# An outline is drawn anew when more than this share of what differs is not the same.
SETTLED = 0.05
# Pixels about all that may be an object, from which the background's colours are learnt.
AROUND = 12
# An outline of less than this share of what moved is none.
LEAST_OUTLINE = 0.2
# Objects: least share of the picture, least share of the clearest one's evidence, how many.
SMALLEST, CLEAR, MOST = 0.002, 0.15, 8
# Colours of the rim, its width in pixels, their least share and least variance (squared levels).
# Nothing nearer to them than so many standard deviations is an object.
RIM_COLOURS, RIM, RIM_SHARE, RIM_VARIANCE = 6, 5, 0.03, 40.0
LEAST_DISTANCE = 1.0
# Light is compared at every so many pixels.
SPARSE = 3
# Flow is sampled at every so many pixels; a similarity explains it to within a pixel.
FLOW_STEP, FLOW_ERROR = 8, 1.0
# Objects fade towards the rim while colours alone decide: half widths, and height of the middle.
SPREAD, MIDDLE = 0.45, 0.55


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
    """

    level: np.ndarray
    known: np.ndarray
    deviation: np.ndarray
    free: np.ndarray
    objects: np.ndarray
    proven: np.ndarray


class Proposals:
    """Finds the objects in the pictures of one camera, one after another."""

    def __init__(self) -> None:
        self._past: list[Kept] = []
        self._background: Background | None = None
        # Place, what differed and the outline, when an outline was drawn last.
        self._drawn: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, rgb: np.ndarray) -> list[Region]:
        """
        Look at the camera's next picture.

        :param rgb: (H, W, 3) uint8.
        :return: the objects, the clearest first, each with its pixels; none where none is seen.
        """
        scale = LOOK_SIDE / max(rgb.shape[:2])
        sides = tuple(max(FLOW_STEP, round(side * scale)) for side in rgb.shape[1::-1])
        picture = cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA)
        place = self._follow(picture)
        if place is None:
            self._past, self._background, self._drawn = [], None, None
        excess, seed, near = self._differs(picture, place)
        found = self._outline(picture, seed, near, place)
        if place is None or self._has_changed(found, place):
            self._keep(picture, found, self._proven(found, excess, place), place)
        return _objects(found, excess, rgb.shape[1] / sides[0], rgb.shape[0] / sides[1])

    def _follow(self, picture: np.ndarray) -> np.ndarray | None:
        """:return: (3, 3), from the newest kept picture to this one; ``None`` for a new place."""
        if not self._past or self._past[-1].picture.shape != picture.shape:
            return None
        last = self._past[-1].picture
        before, now = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (last, picture))
        flow = self._flow.calc(before, now, np.zeros((*now.shape, 2), np.float32))
        half = FLOW_STEP // 2
        y, x = np.mgrid[half:now.shape[0]:FLOW_STEP, half:now.shape[1]:FLOW_STEP]
        start = np.stack((x, y), -1).reshape(-1, 2).astype(np.float32)
        cv2.setRNGSeed(0)
        matrix, _ = cv2.estimateAffinePartial2D(start, start + flow[y, x].reshape(-1, 2),
                                                ransacReprojThreshold=FLOW_ERROR)
        if matrix is None:
            return None
        place = np.vstack((matrix, (0.0, 0.0, 1.0)))
        moved, inside = _moved(last, place), _moved(np.full(now.shape, 255, np.uint8), place)
        seen = inside == 255
        if seen.mean() < KNOWN:
            return None
        level = moved.astype(np.float32) * _gain(picture, moved, seen)
        explained = (_most(np.abs(picture - level)) < 2 * SAME)[seen].mean()
        return place if explained >= EXPLAINED else None

    def _differs(self, picture: np.ndarray, place: np.ndarray | None
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Compare a picture with the background.

        :return: evidence (h, w) float32; (h, w) bool, where objects may be; (h, w) bool, where
            an outline may run.
        """
        if place is None or self._background is None:
            return _by_colour(picture)
        known = _moved(self._background.known, place)
        level = _moved(self._background.level, place)
        level = level * _gain(picture, level, known > 0.5)
        around = np.ones((3, 3), np.uint8)
        value = picture.astype(np.float32)
        beyond = np.maximum(value - cv2.dilate(level, around), cv2.erode(level, around) - value)
        excess = _most(beyond) - DEVIATIONS * _moved(self._background.deviation, place)
        excess = excess.clip(0.0)
        excess[known < COVERED / 2] = 0.0
        excess = np.asarray(cv2.GaussianBlur(excess, (0, 0), 1.0))
        # What was an object as far back as is known, and looks the same, still is one.
        stayed = (_moved(self._background.objects, place) > 127) & (excess < OTHER)
        excess[stayed] = OTHER
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP, GAP))
        seed = cv2.morphologyEx((excess >= OTHER).astype(np.uint8), cv2.MORPH_CLOSE, disc)
        seed = cv2.morphologyEx(seed, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8))
        side = 2 * BEYOND + 1
        near = cv2.dilate(seed, np.ones((side, side), np.uint8)) > 0
        return excess, seed > 0, near

    def _outline(self, picture: np.ndarray, seed: np.ndarray, near: np.ndarray,
                 place: np.ndarray | None) -> np.ndarray:
        """:return: (h, w) bool; the newest outline still holds where next to nothing moved."""
        at = np.eye(3) if place is None else place
        if place is not None and self._drawn is not None:
            before, kept, found = self._drawn
            height, width = seed.shape
            differs = (seed ^ kept).sum() > SETTLED * (seed | kept).sum()
            if not differs and _shift(at @ np.linalg.inv(before), width, height) < 1.0:
                return found
        found = outline(picture, seed, near)
        self._drawn = at, seed, found
        return found

    def _has_changed(self, found: np.ndarray, place: np.ndarray) -> bool:
        """:return: whether a picture tells more than the newest kept one."""
        height, width = found.shape
        if _shift(place, width, height) > MOVED * width:
            return True
        before = _moved(self._past[-1].objects, place) > 127
        both, either = (before & found).sum(), (before | found).sum()
        return bool(both < UNCHANGED * either)

    def _proven(self, found: np.ndarray, excess: np.ndarray, place: np.ndarray | None
                ) -> np.ndarray:
        """:return: (h, w) uint8, the objects that free background is known to lie behind."""
        if place is None or self._background is None:
            return np.zeros(found.shape, np.uint8)
        sure = (excess > OTHER) & (_moved(self._background.free, place) >= BY_COLOUR / 2)
        sure |= _moved(self._background.proven, place) > 127
        count, label = cv2.connectedComponents(found.astype(np.uint8))
        size = np.bincount(label.ravel(), minlength=count)
        share = np.bincount(label.ravel(), sure.ravel(), minlength=count) / np.maximum(size, 1)
        return np.where(found & (share >= PROVEN)[label], 255, 0).astype(np.uint8)

    def _keep(self, picture: np.ndarray, found: np.ndarray, proven: np.ndarray,
              place: np.ndarray | None) -> None:
        """Remember a picture, and what the background is with it."""
        weight = BY_COLOUR if place is None else 1.0
        for each in self._past:
            each.place = place @ each.place
        objects = cv2.dilate(found.astype(np.uint8) * 255, np.ones((GAP, GAP), np.uint8))
        self._past = [*self._past[1 - KEPT:], Kept(picture, objects, proven, np.eye(3), weight)]
        self._background = laid_over(self._past)
        if self._drawn is not None:
            self._drawn = np.eye(3), *self._drawn[1:]


def laid_over(past: list[Kept]) -> Background:
    """
    Tell the background from pictures of it: what most of them agree on.

    :param past: the newest last.
    """
    picture = past[-1].picture
    height, width = picture.shape[:2]
    level = np.empty((len(past), height, width, 3), np.float32)
    weight = np.empty((len(past), height, width), np.float32)
    rest = all(_shift(each.place, width, height) < MOVED * width for each in past)
    covered_always = np.ones((height, width), bool)
    for k, each in enumerate(past):
        moved = _moved(each.picture, each.place)
        seen = _moved(np.full((height, width), 255, np.uint8), each.place) == 255
        level[k] = moved * _gain(picture, moved, seen)
        covered = _moved(each.objects, each.place) > 0
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
            alike = _alike(coarse[i], coarse[j])
            vote[i] += alike * share[j]
            vote[j] += alike * share[i]
    vote[np.stack(share) == 0] = -1.0
    best = cv2.resize(vote.argmax(0).astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST)
    chosen = np.take_along_axis(level, best[None, ..., None].astype(np.intp), 0)[0]
    near = np.stack([_alike(each, chosen) for each in level]) * weight
    known = near.sum(0)
    mean = np.einsum('kyx,kyxc->yxc', near, level) / np.maximum(known, 1e-6)[..., None]
    hidden = covered_always & (known > 0) & rest
    if len(past) == KEPT:
        # So much has moved meanwhile: what never did is no object.
        hidden &= past[-1].proven > 0
    mean = mean.astype(np.float32)
    deviation = np.stack([_most(cv2.absdiff(each, mean)).clip(0.0, WILD) for each in level])
    free = np.where(weight > COVERED, weight, 0.0)
    deviation = (deviation * free).sum(0) / np.maximum(free.sum(0), 1e-6)
    open_to_view = (near * (weight > COVERED)).sum(0)
    return Background(mean, known, deviation, open_to_view, hidden.astype(np.uint8) * 255,
                      past[-1].proven)


def outline(picture: np.ndarray, seed: np.ndarray, near: np.ndarray) -> np.ndarray:
    """
    Draw the outline of what differs.

    :param picture: (h, w, 3) uint8.
    :param seed: (h, w) bool, what probably is an object.
    :param near: (h, w) bool, beyond which there certainly is none.
    :return: (h, w) bool.
    """
    if not seed.any() or seed.all():
        return np.zeros(seed.shape, bool)
    kind = np.where(seed, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    kind[~near] = cv2.GC_BGD
    x, y, width, height = cv2.boundingRect(near.astype(np.uint8))
    part = (slice(max(0, y - AROUND), y + height + AROUND),
            slice(max(0, x - AROUND), x + width + AROUND))
    whole, kind = np.zeros(seed.shape, np.uint8), np.ascontiguousarray(kind[part])
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(np.ascontiguousarray(picture[part]), kind, (0, 0, 0, 0), np.zeros((1, 65)),
                    np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:                                 # one colour only
        return seed
    whole[part] = (kind == cv2.GC_FGD) | (kind == cv2.GC_PR_FGD)
    found = cv2.morphologyEx(whole, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8))
    return found > 0 if found.sum() >= LEAST_OUTLINE * seed.sum() else seed


def _by_colour(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find what has none of the rim's colours; results as of :meth:`Proposals._differs`.

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


def _objects(found: np.ndarray, excess: np.ndarray, across: float, down: float) -> list[Region]:
    """:return: connected parts as regions of a picture so many times as large."""
    count, label, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    evidence = np.bincount(label.ravel(), excess.ravel(), minlength=count)
    evidence[0] = 0.0
    evidence[stats[:, cv2.CC_STAT_AREA] < SMALLEST * found.size] = 0.0
    regions = []
    for k in np.argsort(-evidence, kind='stable')[:MOST]:
        if evidence[k] <= 0 or evidence[k] < CLEAR * evidence.max():
            break
        x, y, width, height = (float(value) for value in stats[k, :4])
        regions.append(Region((x * across, y * down, width * across, height * down),
                              (label == k).astype(np.uint8)))
    return regions


def _shift(place: np.ndarray, width: int, height: int) -> float:
    """:return: pixels by which the corners of a picture move at most."""
    corner = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    return float(np.abs(corner @ place.T - corner).max())


def _moved(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """:return: an image whose pixels were moved; 0 where none came from."""
    return np.asarray(cv2.warpAffine(values, place[:2], values.shape[1::-1]))


def _gain(picture: np.ndarray, level: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """:return: (3,) float32, how much brighter each colour of a picture is than another."""
    seen = seen[::SPARSE, ::SPARSE]
    if not seen.any():
        return np.ones(3, np.float32)
    ratio = (picture[::SPARSE, ::SPARSE][seen] + 1.0) / (level[::SPARSE, ::SPARSE][seen] + 1.0)
    return np.median(ratio, axis=0).astype(np.float32)


def _most(values: np.ndarray) -> np.ndarray:
    """:return: (h, w), the largest of three colours (h, w, 3)."""
    red, green, blue = cv2.split(values)
    return np.maximum(np.maximum(red, green), blue)


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """:return: (h, w) float32 in [0, 1], how much two pictures (h, w, 3) are the same."""
    difference = _most(cv2.absdiff(one, other))
    return np.exp(-(difference / np.float32(SAME)) ** 2)
