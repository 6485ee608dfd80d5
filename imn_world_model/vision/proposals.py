"""
Where objects are in whole pictures of a camera, without a model: they move against the background.

The background may move, too: it is followed (:mod:`camera_motion`), kept as pictures of the past
laid over each other, and taken away. GrabCut then draws the outline, so that neither what an
object leaves behind nor its shadow counts. While nothing is known yet, an object is what has other
colours than the picture's rim. Where colours alone tell everything (:mod:`colours`), they do.

Needs neither torch nor ROS.
"""
import cv2
import numpy as np

from imn_world_model.vision.camera_motion import CameraMotion
from imn_world_model.vision.colours import Things, coloured_things
from imn_world_model.vision.outlines import SPECK, by_rim, outline
from imn_world_model.vision.past import (
    COVERED,
    KEPT,
    MOVED,
    SAME,
    Background,
    Kept,
    displaced,
    gain,
    laid_over,
    most,
    shift,
)
from imn_world_model.vision.regions import Region

# Pictures are looked at with as many pixels along their longer side.
LOOK_SIDE = 160
# Grey levels that are certainly something else; multiples of a pixel's own deviation that are no
# object.
OTHER, DEVIATIONS = 12.0, 1.5
# Weight of a kept picture in which colours alone told objects.
BY_COLOUR = 0.2
# Share of pixels that the past must explain, or the camera looks elsewhere; share of the picture
# of which something must be known, or its colours alone decide.
EXPLAINED, KNOWN = 0.4, 0.5
# A picture is kept, too, when of the objects' pixels less than this share are the same, or when
# of those that are, more than this share of the picture look otherwise: what is held for one
# object may hide that another moves in it.
UNCHANGED, STIRRED = 0.8, 0.005
# Share of what was held for an object by its colours that moves off when it was none.
LEFT = 0.2
# Before a camera at rest: grey levels that are certainly an object, not its shadow, where the
# ground was seen without an object in so many pictures.
SURE, OPEN = 24.0, 2.0
# Share of an object's pixels behind which free background is known, for it to be proven.
PROVEN = 0.25
# Pixels: gaps that are closed, how far an outline may lie beyond what moved.
GAP, BEYOND = 5, 7
# An outline is drawn anew when more than this share of what differs is not the same.
SETTLED = 0.05
# Objects: least share of the picture, least share of the clearest one's evidence before a camera
# at rest (where light and shadow differ, too) and before one that moves, how many.
SMALLEST, CLEAR, FAINT, MOST = 0.002, 0.15, 0.05, 8
# Least side of what is looked at, in pixels.
LEAST_SIDE = 8
# Colours are asked whether they alone tell at the first so many pictures of a place, and then
# at every so many. They do from the first picture on that says so, or where a background is known
# after so many. A picture that says no takes away the trust of two; there is so much at most.
FIRST, AGAIN, ENOUGH, TRUST = 3, 5, 5, 24


class Proposals:
    """Finds the objects in the pictures of one camera, one after another."""

    def __init__(self) -> None:
        self._trust, self._looked = 0, 0
        self._past: list[Kept] = []
        self._background: Background | None = None
        # Place, what differed and the outline, when an outline was drawn last.
        self._drawn: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._camera = CameraMotion()
        # What a picture tells the background, once its objects have been told.
        self._left: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None

    def __call__(self, rgb: np.ndarray) -> list[Region]:
        """
        Look at the camera's next picture.

        :param rgb: (H, W, 3) uint8.
        :return: the objects, the clearest first, each with its pixels; none where none is seen.
        """
        picture = looked_at(rgb)
        return self.search(picture, rgb.shape[1] / picture.shape[1],
                           rgb.shape[0] / picture.shape[0])

    def search(self, picture: np.ndarray, across: float, down: float) -> list[Region]:
        """
        Look at the camera's next picture, which is as small as it is looked at.

        :param picture: (h, w, 3) uint8, of :func:`looked_at`.
        :param across: how many times as wide the camera's picture is.
        :param down: how many times as high.
        :return: the objects in the camera's picture, as of a call.
        """
        self.learn()
        things = self._colours_tell(picture)
        if things is not None:
            return [_region(mask, across, down) for mask in things.masks]
        place = self._follow(picture)
        if place is None:
            if self._past:
                self._looked = 0
            self._past, self._background, self._drawn = [], None, None
        excess, seed, near = self._differs(picture, place)
        found = self._outline(picture, seed, self._sure(excess, place), near, place)
        self._left = picture, found, excess, place
        return _objects(found, excess, FAINT if self._moves() else CLEAR, across, down)

    def learn(self) -> None:
        """
        Use the last picture for the background.

        It takes as long as to find the objects, and nobody waits for it: call it once they have
        been passed on, or not at all; then the next picture's call begins with it.
        """
        if self._left is None:
            return
        picture, found, excess, place = self._left
        self._left = None
        if place is None or self._has_changed(picture, found, place):
            self._keep(picture, found, self._proven(found, excess, place), place)

    def _moves(self) -> bool:
        """:return: whether a background is known, and moves: what differs from it is near."""
        return self._background is not None and not self._background.rest

    def _colours_tell(self, picture: np.ndarray) -> Things | None:
        """:return: what colours alone find; ``None`` where they alone do not do."""
        self._looked += 1
        if not (self._trust or self._looked <= FIRST or self._looked % AGAIN == 0):
            return None
        things = coloured_things(picture)
        if things.plain is not None:
            self._trust = max(0, min(TRUST, self._trust + (1 if things.plain else -2)))
        if self._trust < (ENOUGH if self._past else 1):
            return None
        self._past, self._background, self._drawn = [], None, None
        return things

    def _follow(self, picture: np.ndarray) -> np.ndarray | None:
        """:return: (3, 3), from the newest kept picture to this one; ``None`` for a new place."""
        if not self._past or self._past[-1].picture.shape != picture.shape:
            return None
        last = self._past[-1].picture
        place = self._camera(last, picture)
        if place is None:
            return None
        now = picture.shape[:2]
        moved, inside = displaced(last, place), displaced(np.full(now, 255, np.uint8), place)
        seen = inside == 255
        if seen.mean() < KNOWN:
            return None
        level = moved.astype(np.float32) * gain(picture, moved, seen)
        explained = (most(np.abs(picture - level)) < 2 * SAME)[seen].mean()
        return place if explained >= EXPLAINED else None

    def _differs(self, picture: np.ndarray, place: np.ndarray | None
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Compare a picture with the background.

        :return: evidence (h, w) float32; (h, w) bool, where objects may be; (h, w) bool, where
            an outline may run.
        """
        if place is None or self._background is None:
            return by_rim(picture)
        known = displaced(self._background.known, place)
        level = displaced(self._background.level, place)
        level = level * gain(picture, level, known > 0.5)
        around = np.ones((3, 3), np.uint8)
        value = picture.astype(np.float32)
        beyond = np.maximum(value - cv2.dilate(level, around), cv2.erode(level, around) - value)
        excess = most(beyond) - DEVIATIONS * displaced(self._background.deviation, place)
        excess = excess.clip(0.0)
        excess[known < COVERED / 2] = 0.0
        excess = np.asarray(cv2.GaussianBlur(excess, (0, 0), 1.0))
        # What was an object as far back as is known, and looks the same, still is one.
        excess[self._stayed(excess, place)] = OTHER
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP, GAP))
        seed = cv2.morphologyEx((excess >= OTHER).astype(np.uint8), cv2.MORPH_CLOSE, disc)
        seed = cv2.morphologyEx(seed, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8))
        side = 2 * BEYOND + 1
        near = cv2.dilate(seed, np.ones((side, side), np.uint8)) > 0
        return excess, seed > 0, near

    def _stayed(self, excess: np.ndarray, place: np.ndarray) -> np.ndarray:
        """
        Tell what was held for an object as far back as is known, and looks the same.

        Things move as a whole: where a part of what colours alone held for one has moved off, and
        the rest is as it was, the rest is ground.

        :return: (h, w) bool.
        """
        assert self._background is not None
        held = displaced(self._background.objects, place) > 127
        same = held & (excess < OTHER)
        count, label = cv2.connectedComponents(held.astype(np.uint8))
        size = np.maximum(np.bincount(label.ravel(), minlength=count), 1)
        left = 1.0 - np.bincount(label.ravel(), same.ravel(), minlength=count) / size
        known = displaced(self._background.proven, place) > 127
        proven = np.bincount(label.ravel(), known.ravel(), minlength=count) / size
        return same & ((left < LEFT) | (proven >= PROVEN))[label]

    def _sure(self, excess: np.ndarray, place: np.ndarray | None) -> np.ndarray:
        """:return: (h, w) bool, what differs clearly from a background that is known there."""
        if place is None or self._background is None or not self._background.rest:
            return np.zeros(excess.shape, bool)
        return (excess >= SURE) & (displaced(self._background.free, place) >= OPEN)

    def _outline(self, picture: np.ndarray, seed: np.ndarray, sure: np.ndarray,
                 near: np.ndarray, place: np.ndarray | None) -> np.ndarray:
        """:return: (h, w) bool; the newest outline still holds where next to nothing moved."""
        at = np.eye(3) if place is None else place
        if place is not None and self._drawn is not None:
            before, kept, found = self._drawn
            height, width = seed.shape
            differs = (seed ^ kept).sum() > SETTLED * (seed | kept).sum()
            if not differs and shift(at @ np.linalg.inv(before), width, height) < 1.0:
                return found
        found = outline(picture, seed, near, self._moves(), sure)
        self._drawn = at, seed, found
        return found

    def _has_changed(self, picture: np.ndarray, found: np.ndarray, place: np.ndarray) -> bool:
        """:return: whether a picture tells more than the newest kept one."""
        height, width = found.shape
        if shift(place, width, height) > MOVED * width:
            return True
        last = self._past[-1]
        before = displaced(last.objects, place) > 127
        both, either = before & found, before | found
        if both.sum() < UNCHANGED * either.sum():
            return True
        other = most(cv2.absdiff(picture, displaced(last.picture, place))) > 2 * SAME
        return bool((other & both).sum() > STIRRED * found.size)

    def _proven(self, found: np.ndarray, excess: np.ndarray, place: np.ndarray | None
                ) -> np.ndarray:
        """:return: (h, w) uint8, the objects that free background is known to lie behind."""
        if place is None or self._background is None:
            return np.zeros(found.shape, np.uint8)
        sure = (excess > OTHER) & (displaced(self._background.free, place) >= BY_COLOUR / 2)
        sure |= displaced(self._background.proven, place) > 127
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


def looked_at(rgb: np.ndarray) -> np.ndarray:
    """:return: (h, w, 3) uint8, a picture as small as it is looked at."""
    scale = LOOK_SIDE / max(rgb.shape[:2])
    sides = tuple(max(LEAST_SIDE, round(side * scale)) for side in rgb.shape[1::-1])
    return np.asarray(cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA))


def _objects(found: np.ndarray, excess: np.ndarray, clear: float, across: float, down: float
             ) -> list[Region]:
    """:return: connected parts as regions of a picture so many times as large."""
    count, label, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    evidence = np.bincount(label.ravel(), excess.ravel(), minlength=count)
    evidence[0] = 0.0
    evidence[stats[:, cv2.CC_STAT_AREA] < SMALLEST * found.size] = 0.0
    regions = []
    for k in np.argsort(-evidence, kind='stable')[:MOST]:
        if evidence[k] <= 0 or evidence[k] < clear * evidence.max():
            break
        regions.append(_region(label == k, across, down))
    return regions


def _region(mask: np.ndarray, across: float, down: float) -> Region:
    """:return: a mask (h, w) bool as a region of a picture so many times as large."""
    values = mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(values)
    return Region((x * across, y * down, width * across, height * down), values)
