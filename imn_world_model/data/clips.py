"""Cutting a topic's frames into clips in which one object stays in view, and clips into splits."""
import hashlib
import os

import cv2
import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
# Side of the thumbnails that scene changes and standstill are judged on.
THUMBNAIL = 16


def frame_change(images: np.ndarray) -> np.ndarray:
    """
    How much each frame differs from the one before.

    :param images: (N, S, S, 3) uint8.
    :return: (N,) mean absolute difference of 16x16 thumbnails in grey levels; 0 for the first.
    """
    small = np.stack([cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
                      for image in images]).astype(np.int16)
    change = np.zeros(len(images))
    change[1:] = np.abs(np.diff(small, axis=0)).mean((1, 2, 3))
    return change


def cut_clips(stamp: np.ndarray, change: np.ndarray, gap: float, scene_change: float,
              max_length: int) -> np.ndarray:
    """
    Number the clips of one topic.

    :param stamp: (N,) ns; zeros where nothing is known.
    :param change: (N,) from :func:`frame_change`.
    :param gap: seconds without a frame (or backwards) that end a clip.
    :param scene_change: change in grey levels that ends a clip.
    :param max_length: frames after which a clip is ended anyway.
    :return: (N,) clip of each frame, from 0, non-decreasing.
    """
    seconds = np.diff(stamp, prepend=stamp[:1]) / 1e9
    clip = np.zeros(len(stamp), np.int64)
    length = 0
    for i in range(1, len(stamp)):
        length += 1
        cut = abs(seconds[i]) > gap or change[i] > scene_change or length >= max_length
        clip[i] = clip[i - 1] + cut
        length = 0 if cut else length
    return clip


def cut_causes(stamp: np.ndarray, change: np.ndarray, clip: np.ndarray, gap: float,
               scene_change: float) -> dict[str, int]:
    """
    Why :func:`cut_clips` cut where it did, to know which threshold to move.

    :return: cause -> cuts: ``gap``, ``backward`` stamps, ``scene`` change, ``length``.
    """
    cut = np.flatnonzero(np.diff(clip)) + 1
    seconds = (stamp[cut] - stamp[cut - 1]) / 1e9
    by_time = np.abs(seconds) > gap
    by_scene = ~by_time & (change[cut] > scene_change)
    return {'gap': int((seconds > gap).sum()), 'backward': int((seconds < -gap).sum()),
            'scene': int(by_scene.sum()), 'length': int((~by_time & ~by_scene).sum())}


def stamp_figures(stamp: np.ndarray, clip: np.ndarray | None = None) -> dict[str, float]:
    """
    Describe the stamps of one topic.

    :param stamp: (N,) ns, in the order of recording; 0 where unknown.
    :param clip: (N,) of each frame where the stamps begin anew with each clip.
    :return: ``rate`` in Hz (median; 0 where unknown), ``backward``: stamps earlier than the one
        before, ``unstamped``: frames without one.
    """
    known = stamp[stamp > 0]
    step = np.diff(known) / 1e9
    if clip is not None:
        step = step[np.diff(clip[stamp > 0]) == 0]
    forward = step[step > 0]
    return {'rate': float(1.0 / np.median(forward)) if len(forward) else 0.0,
            'backward': int((step < 0).sum()), 'unstamped': int((stamp <= 0).sum())}


def moving(change: np.ndarray, clip: np.ndarray, threshold: float) -> np.ndarray:
    """
    Which frames to keep where the camera stands still.

    A frame is kept once the changes since the last kept one add up to the threshold.

    :param change: (N,) from :func:`frame_change`.
    :param clip: (N,) clip of each frame.
    :param threshold: grey levels; 0 keeps every frame.
    :return: (N,) boolean; each clip's first frame is kept.
    """
    keep = np.ones(len(change), bool)
    since = 0.0
    for i in range(1, len(change)):
        since += change[i]
        keep[i] = clip[i] != clip[i - 1] or since >= threshold
        since = 0.0 if keep[i] else since
    return keep


def split_clips(names: list[str], fractions: tuple[float, float], seed: int) -> np.ndarray:
    """
    Whole clips into train, validation and test.

    Clips are ranked by a hash of name and seed, so that the same recording falls the same way
    whatever else is read with it; with three clips or more every split gets one.

    :param names: a stable name of each clip; clips of one name stay together.
    :param fractions: share of validation and of test.
    :param seed: of the hash.
    :return: (K,) uint8 of TRAIN, VALIDATION, TEST.
    """
    if not names:
        return np.zeros(0, np.uint8)
    different, number = np.unique(names, return_inverse=True)
    rank = np.array([unit_hash(f'{seed}:{name}') for name in different])
    split = np.full(len(different), TRAIN, np.uint8)
    validation, test = fractions
    split[rank < validation + test] = VALIDATION
    split[rank < test] = TEST
    # One or two may be part of more data: whether training goes without is seen when all is read.
    return (fill_splits(split, rank, fractions) if len(different) >= 3 else split)[number]


def fill_splits(split: np.ndarray, rank: np.ndarray, fractions: tuple[float, float]) -> np.ndarray:
    """
    Give every split that is wanted a clip, where there are three clips or more; else training.

    :param split: (K,) uint8 of TRAIN, VALIDATION, TEST.
    :param rank: (K,) number of each clip that depends on its content alone.
    :param fractions: share of validation and of test; a split of share 0 stays empty.
    :return: (K,) uint8; the same where no split is empty.
    """
    split = split.copy()
    validation, test = fractions
    if len(split) >= 3:
        order = np.argsort(rank, kind='stable')
        if test > 0 and not (split == TEST).any():
            split[order[0]] = TEST
        if validation > 0 and not (split == VALIDATION).any():
            rest = order[split[order] != TEST]
            split[rest[0] if len(rest) else order[1]] = VALIDATION
    if len(split) and not (split == TRAIN).any():
        split[np.argmax(rank)] = TRAIN
    return split


def unit_hash(text: str) -> float:
    """
    Rank names at random, the same every time.

    :return: a number in [0, 1) that depends on the text alone.
    """
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:8], 'big') / 2 ** 64


def split_factors(factors: np.ndarray, fractions: tuple[float, float]) -> np.ndarray:
    """
    Factor combinations into train, validation and test, the same for every file.

    :param factors: (N, K) integers.
    :param fractions: share of validation and of test.
    :return: (N,) uint8 of TRAIN, VALIDATION, TEST.
    """
    mixed: np.ndarray = np.zeros(len(factors), np.uint64)
    with np.errstate(over='ignore'):
        for column in factors.T.astype(np.uint64):
            mixed = (mixed ^ (column + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(
                0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(29)
    rank = (mixed >> np.uint64(11)).astype(np.float64) / 2 ** 53
    validation, test = fractions
    split = np.full(len(factors), TRAIN, np.uint8)
    split[rank < validation + test] = VALIDATION
    split[rank < test] = TEST
    return split
