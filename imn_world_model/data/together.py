"""
Frames of one recording that lie at the same time belong to one split, whatever their topic.

The camera with most frames leads: its clips are as they would be without the others. Where one
of its clips ends, those of the others end as well, and what lies at one time is one group.
"""
from dataclasses import dataclass, field

import numpy as np

from imn_world_model.data.clips import split_clips

NEVER = np.iinfo(np.int64).max


@dataclass
class Track:
    """
    What one camera recorded.

    :param name: unique in the recording and the same wherever it lies.
    :param time: (N,) on the recording's clock.
    :param reach: on that clock, how far apart things are at the same time.
    :param clip: (N,) clip of each frame, from 0, non-decreasing; cut further by
        :func:`share_time`.
    :param groups: name of the group of each clip, from :func:`share_time`.
    """

    name: str
    time: np.ndarray
    reach: int
    clip: np.ndarray
    groups: list[str] = field(default_factory=list)


@dataclass
class _Spans:
    """Times that belong to groups, of one track in order of time."""

    start: np.ndarray
    end: np.ndarray
    group: np.ndarray

    def at(self, time: np.ndarray, reach: int) -> np.ndarray:
        """:return: (K,) group at each time or within reach of it, -1 for none."""
        after = np.searchsorted(self.start, time, side='right')
        since = np.full(len(time), NEVER)
        known = after > 0
        since[known] = np.maximum(time[known] - self.end[after[known] - 1], 0)
        until = np.full(len(time), NEVER)
        known = after < len(self.start)
        until[known] = self.start[after[known]] - time[known]
        nearest = np.where(since <= until, after - 1, after).clip(0, len(self.start) - 1)
        return np.where(np.minimum(since, until) <= reach, self.group[nearest], -1)


def share_time(tracks: list[Track]) -> None:
    """
    Give clips at the same time the same group, cutting them where needed.

    :param tracks: all of one recording; their clips and groups are set. A track alone keeps its
        clips, each a group of its own.
    """
    near: list[Track] = []
    end = 0
    # Thousands of folders, each a take at its own time, do not concern each other.
    for track in sorted(tracks, key=lambda track: int(track.time.min())):
        if near and track.time.min() - end > track.reach:
            _share(near)
            near = []
        end = max(end, int(track.time.max())) if near else int(track.time.max())
        near.append(track)
    if near:
        _share(near)


def _share(tracks: list[Track]) -> None:
    """Do the same for tracks each of which is close to another in time."""
    names: list[str] = []
    placed: list[_Spans] = []
    for track in sorted(tracks, key=lambda track: (-len(track.time), track.name)):
        group = np.full(len(track.time), -1)
        for spans in placed:
            todo = np.flatnonzero(group < 0)
            group[todo] = spans.at(track.time[todo], track.reach)
        starts = np.flatnonzero(np.diff(track.clip, prepend=-1))
        for number, inside in enumerate(np.split(group, starts[1:])):
            known = np.flatnonzero(inside >= 0)
            if len(known):                            # the rest of the clip with what is nearest
                last = np.searchsorted(known, np.arange(len(inside)), side='right') - 1
                inside[:] = inside[known[last.clip(0)]]
            else:
                inside[:] = len(names)
                names.append(f'{track.name}:{number}')
        cut = (np.diff(track.clip) != 0) | (np.diff(group) != 0)
        track.clip = np.concatenate(([0], np.cumsum(cut))).astype(np.int64)
        starts = np.flatnonzero(np.concatenate(([True], cut)))
        track.groups = [names[k] for k in group[starts]]
        start = np.minimum.reduceat(track.time, starts)
        order = np.argsort(start, kind='stable')
        placed.append(_Spans(start[order], np.maximum.reduceat(track.time, starts)[order],
                             group[starts][order]))


def common_time(stamp: np.ndarray, recorded: np.ndarray, topics: list[np.ndarray],
                reach: int) -> np.ndarray:
    """
    Find the clock that all topics of a recording agree on.

    :param stamp: (N,) ns, what cameras say. Exact, if their clocks are right.
    :param recorded: (N,) ns, when they were recorded; 0 where unknown.
    :param topics: rows of each.
    :param reach: ns by which clocks may differ.
    :return: (N,) ns, one of the two.
    """
    if len(stamp) == 0 or not (recorded > 0).all():
        return stamp
    apart = [np.median(stamp[rows] - recorded[rows]) for rows in topics]
    again = any((np.diff(stamp[rows]) < -reach).any() for rows in topics)
    return recorded if again or max(apart) - min(apart) > reach else stamp


def split_recordings(groups: list[list[str]], fractions: tuple[float, float],
                     seed: int) -> list[np.ndarray]:
    """
    Split source by source, but those together that share groups.

    :param groups: of each source, the group of each clip.
    :param fractions: share of validation and of test.
    :param seed: of the split.
    :return: of each source (K,) uint8 of TRAIN, VALIDATION, TEST.
    """
    root = list(range(len(groups)))

    def find(source: int) -> int:
        while root[source] != source:
            source = root[source]
        return source

    owner: dict[str, int] = {}
    for source, names in enumerate(groups):
        for name in dict.fromkeys(names):
            root[find(source)] = find(owner.setdefault(name, source))
    together = [find(source) for source in range(len(groups))]
    split: dict[str, int] = {}
    for one in set(together):
        names = [name for source, own in enumerate(groups) if together[source] == one
                 for name in own]
        split |= dict(zip(names, split_clips(names, fractions, seed).tolist(), strict=True))
    return [np.array([split[name] for name in names], np.uint8) for names in groups]
