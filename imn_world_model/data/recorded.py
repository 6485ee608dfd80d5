"""
Which bags are one recording: the files that it was split into, or a bag for each camera.

Bags that lie at the same time are one, unless they show that they are not: no camera takes two
pictures at once. So do robots whose topics have the same names, and logs of simulators, which
all begin at one time.
"""
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imn_world_model.data.cache import Entry
from imn_world_model.data.sequences import CAMERA, EPOCH, FIRST, LAST, rig
from imn_world_model.data.together import common_time
from imn_world_model.data.topics import camera_of

# Frames that are looked at to tell one camera from another.
SAMPLES = 16
# Grey levels by which a picture differs from itself, packed anew.
SAME_PICTURE = 8.0


@dataclass
class _Bag:
    """
    A bag among others.

    :param number: among those given.
    :param when: (N,) ns since 1970, when its frames were recorded.
    :param rows: camera -> (K,) of the entry, in order of ``when``.
    """

    number: int
    path: Path
    entry: Entry
    when: np.ndarray
    rows: dict[str, np.ndarray]


def bag_clocks(bags: list[tuple[Path, Entry]], reach: int) -> list[tuple[str, np.ndarray]]:
    """
    Find the clock of each bag.

    :param bags: where each is, and its frames.
    :param reach: ns; what is no farther apart is at the same time.
    :return: of each bag the name of its clock, and (N,) ns on it, frame by frame. Bags of one
        clock are parts of one recording where they lie at the same time. ``epoch`` is also the
        clock of pictures whose names hold a time.
    """
    clocks: dict[int, tuple[str, np.ndarray]] = {}
    dated = []
    for number, (path, entry) in enumerate(bags):
        when = entry.truth_key if _since_1970(entry.truth_key) else entry.stamp
        rows = [np.flatnonzero(entry.topic == k) for k in range(len(entry.topics))]
        if _since_1970(when):
            dated.append(_Bag(number, path, entry, when, _cameras(entry, when)))
        else:                                         # only names tell what belongs together
            clocks[number] = (rig(path, ''),
                              common_time(entry.stamp, entry.truth_key, rows, reach))
    for near in _near(dated, reach):
        for place, recording in enumerate(_recordings(near, reach)):
            clocks |= _agree(recording, reach, is_first=place == 0)
    return [clocks[number] for number in range(len(bags))]


def _since_1970(time: np.ndarray) -> bool:
    return len(time) > 0 and bool(time.min() >= FIRST and time.max() <= LAST)


def _cameras(entry: Entry, when: np.ndarray) -> dict[str, np.ndarray]:
    """:return: camera -> rows of its pictures, raw or compressed, in order of time."""
    camera = np.array([camera_of(topic) for topic in entry.topics])[entry.topic]
    order = np.argsort(when, kind='stable')
    return {str(name): order[camera[order] == name] for name in np.unique(camera)}


def _near(bags: list[_Bag], reach: int) -> Iterator[list[_Bag]]:
    """:return: bags between which there is no longer pause."""
    near: list[_Bag] = []
    end = 0
    for bag in sorted(bags, key=lambda bag: (int(bag.when.min()), bag.entry.fingerprint)):
        if near and bag.when.min() - end > reach:
            yield near
            near = []
        end = max(end, int(bag.when.max())) if near else int(bag.when.max())
        near.append(bag)
    if near:
        yield near


def _recordings(bags: list[_Bag], reach: int) -> list[list[_Bag]]:
    """:return: bags apart that cannot be one recording; with those whose paths are most alike."""
    recordings: list[list[_Bag]] = []
    for bag in bags:
        fitting = [recording for recording in recordings
                   if not any(_is_other(bag, one, reach) for one in recording)]
        if fitting:
            max(fitting, key=lambda recording: max(
                _alike(bag.path, one.path) for one in recording)).append(bag)
        else:
            recordings.append([bag])
    return recordings


def _alike(one: Path, other: Path) -> int:
    """:return: how many folders two paths share."""
    return sum(mine == its for mine, its in zip(one.absolute().parts, other.absolute().parts,
                                                strict=False))


def _is_other(one: _Bag, other: _Bag, reach: int) -> bool:
    """:return: whether a camera of both saw two things at one time."""
    if _are_rig(one.path, other.path):                # whose drivers use the same names
        return False
    return any(_two_things(one, other, camera, reach)
               for camera in one.rows.keys() & other.rows.keys())


def _are_rig(one: Path, other: Path) -> bool:
    """:return: whether paths differ in the camera, and but for it in no more than numbers."""
    words = [CAMERA.findall(str(path.absolute())) for path in (one, other)]
    rest = [re.sub(r'\d+', '#', rig(path, '')) for path in (one, other)]
    return words[0] != words[1] and rest[0] == rest[1]


def _two_things(one: _Bag, other: _Bag, camera: str, reach: int) -> bool:
    """:return: whether a camera has pictures in both bags at the same time that differ."""
    if len(one.rows[camera]) > len(other.rows[camera]):
        one, other = other, one                       # a copy may lack pictures
    mine, its = one.rows[camera], other.rows[camera]
    time, known = one.when[mine], other.when[its]
    inside = np.flatnonzero((time >= known[0]) & (time <= known[-1]))
    if not len(inside):                               # one goes on where the other ends
        return False
    inside = inside[np.unique(np.linspace(0, len(inside) - 1, SAMPLES).astype(int))]
    after = np.searchsorted(known, time[inside]).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(known[after] - time[inside]) <= np.abs(known[before] - time[inside]),
                       after, before)
    close = np.abs(known[nearest] - time[inside]) <= reach
    difference = np.abs(one.entry.images[mine[inside[close]]].astype(np.int16)
                        - other.entry.images[its[nearest[close]]]).mean((1, 2, 3))
    return bool(close.any() and np.median(difference) > SAME_PICTURE)


def _agree(bags: list[_Bag], reach: int, is_first: bool) -> dict[int, tuple[str, np.ndarray]]:
    """:return: number of each bag -> the clock of all of them, and times on it."""
    starts = np.cumsum([0] + [len(bag.when) for bag in bags])
    topics = [start + np.flatnonzero(bag.entry.topic == k)
              for start, bag in zip(starts[:-1], bags, strict=True)
              for k in range(len(bag.entry.topics))]
    time = common_time(np.concatenate([bag.entry.stamp for bag in bags]),
                       np.concatenate([bag.entry.truth_key for bag in bags]), topics, reach)
    clock = EPOCH if is_first and _since_1970(time) else str(bags[0].path.absolute())
    return {bag.number: (clock, own) for bag, own in
            zip(bags, np.split(time, starts[1:-1]), strict=True)}
