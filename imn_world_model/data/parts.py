"""A source's decoded frames cut into clips, with their splits and labels."""
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imn_world_model.data.cache import Entry
from imn_world_model.data.clips import cut_causes, cut_clips, moving, stamp_figures
from imn_world_model.data.options import DataOptions
from imn_world_model.data.raw import Source
from imn_world_model.data.recorded import bag_clocks
from imn_world_model.data.sequences import EPOCH, place, rig
from imn_world_model.data.together import Track, share_time, split_recordings

# What is left out of a source: messages, but for these.
ITEMS = {'images': 'image', 'lerobot': 'frame'}


@dataclass(frozen=True)
class Part:
    """
    One source's frames, before sources are put together; columns as in :class:`frames.Frames`.

    :param rows: (N,) of ``images`` that are used.
    :param groups: name of what each clip shares its split with; empty where clips are on their
        own.
    """

    images: np.ndarray
    rows: np.ndarray
    clip: np.ndarray
    split: np.ndarray
    topic: list[str]
    stamp: np.ndarray
    index: np.ndarray
    labels: dict[str, list[str | None]]
    fingerprint: str
    groups: list[str]
    notes: list[str]
    report: dict[str, Any]
    values: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _Topic:
    """
    One topic's frames.

    :param rows: (K,) of the entry.
    :param track: their times and clips.
    :param clock: name of the clock of ``track``; tracks of one clock share their splits. Empty
        for single pictures.
    :param clips: number of clips before other topics cut them.
    """

    name: str
    rows: np.ndarray
    track: Track
    clock: str
    clips: int


def cut_entries(entries: list[tuple[Source, Entry]], options: DataOptions) -> list[Part]:
    """
    Cut into clips, and clips into splits.

    :param entries: all there is: cameras that recorded at the same time may lie in several.
    :param options: how.
    :return: a part each, topic after topic, standstill left out.
    """
    told = iter(bag_clocks([(source.path, entry) for source, entry in entries
                            if source.kind == 'bag'], round(options.gap * 1e9)))
    cut = [_topics(source, entry, options, *(next(told) if source.kind == 'bag'
                                             else _name_clock(source, entry)))
           for source, entry in entries]
    clocks: defaultdict[str, list[Track]] = defaultdict(list)
    for topics in cut:
        for topic in topics:
            clocks[topic.clock].append(topic.track)
    for track in clocks.pop('', []):
        track.groups = [f'{track.name}:{number}' for number in range(len(track.clip))]
    for tracks in clocks.values():
        share_time(tracks)
    splits = split_recordings([[group for topic in topics for group in topic.track.groups]
                               for topics in cut], options.fractions, options.seed)
    return [_part(source, entry, topics, split, options)
            for (source, entry), topics, split in zip(entries, cut, splits, strict=True)]


def _name_clock(source: Source, entry: Entry) -> tuple[str, np.ndarray]:
    """:return: clock and times of what is no bag, by its name."""
    named = place(source.path.name) if source.kind == 'video' else None
    if named and named.clock == EPOCH:                # a video that has the name of its start
        return EPOCH, named.value + entry.stamp
    return rig(source.path, ''), entry.stamp


def _topics(source: Source, entry: Entry, options: DataOptions, clock: str, time: np.ndarray
            ) -> list[_Topic]:
    """
    Cut each of an entry's topics into clips by what it shows itself.

    :param clock: of what is recorded.
    :param time: (N,) on that clock.
    """
    rows = [np.flatnonzero(entry.topic == number) for number in range(len(entry.topics))]
    reach = round(options.gap * 1e9)
    topics = []
    for name, own in zip(entry.topics, rows, strict=True):
        pattern, counts = entry.info['sequences'].get(name, ('', ''))
        # The same camera's raw and compressed images have one name, so has a renamed folder's.
        camera = pattern if source.kind == 'images' else name.removesuffix('/compressed')
        known = f'{entry.fingerprint}:{camera}'
        if source.kind == 'images' and not pattern:
            clip = np.arange(len(own))
            topics.append(_Topic(name, own, Track(known, clip, 0, clip), '', len(own)))
            continue
        if source.kind == 'lerobot':                  # an episode is a clip, whatever is in it
            clip = np.cumsum(np.diff(entry.clip[own], prepend=entry.clip[own[:1]]) != 0)
            track = Track(known, _through_episodes(entry)[own], 0, clip)
            topics.append(_Topic(name, own, track, str(source.path.absolute()),
                                 int(clip[-1]) + 1))
            continue
        clip = cut_clips(entry.stamp[own], entry.change[own], options.gap, options.scene_change,
                         options.max_clip)
        if counts == 'number':                        # kept in place of a key to ground truth
            track = Track(known, entry.truth_key[own], 1, clip)
        else:
            track = Track(known, time[own], reach, clip)
        if source.kind == 'images':
            clock = EPOCH if counts == EPOCH else counts + rig(source.path, pattern)
        topics.append(_Topic(name, own, track, clock, int(clip[-1]) + 1))
    return topics


def _through_episodes(entry: Entry) -> np.ndarray:
    """:return: (N,) ns; stamps begin anew with each episode, these go on from one to the next."""
    rank = np.unique(entry.clip, return_inverse=True)[1]
    return rank * (int(entry.stamp.max()) + 1) + entry.stamp


def _part(source: Source, entry: Entry, topics: list[_Topic], split: np.ndarray,
          options: DataOptions) -> Part:
    rows: list[np.ndarray] = []
    clips: list[np.ndarray] = []
    groups: list[str] = []
    figures: dict[str, dict[str, Any]] = {}
    for topic in topics:
        own, clip = topic.rows, topic.track.clip
        keep = np.ones(len(own), bool)
        in_time: dict[str, Any] = {}
        if topic.clock:                               # single images have no order in time
            stamp, change = entry.stamp[own], entry.change[own]
            keep = moving(change, clip, options.still)
            causes = cut_causes(stamp, change, clip, options.gap, options.scene_change)
            by_others = int(clip[-1]) + 1 - topic.clips
            if by_others:
                causes['length'] -= by_others
                causes['camera'] = by_others
            in_time = {'cuts': causes, **stamp_figures(stamp)}
            if source.kind == 'lerobot':
                in_time = {'cuts': {'episode': int(clip[-1])}, **stamp_figures(stamp, clip)}
        rows.append(own[keep])
        clips.append(clip[keep] + len(groups))
        groups += topic.track.groups
        figures[topic.name] = {
            'frames': len(own), 'still': int((~keep).sum()), 'clips': int(clip[-1]) + 1,
            'shortest': int(np.bincount(clip).min()), 'longest': int(np.bincount(clip).max()),
            **in_time}
    row = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    clip = np.concatenate(clips) if clips else np.zeros(0, np.int64)
    still = len(entry.topic) - len(row)
    notes = [f'{source.path}: {problem}' if str(source.path) not in problem else problem
             for problem in entry.info['problems']]
    left = entry.info['left_count']
    one = ITEMS.get(source.kind, 'message')
    notes += [f'{source.path}: {topic} left out, {left[topic]} {one}{"s" * (left[topic] != 1)} '
              f'({reason})' for topic, reason in entry.info['left_out'].items()]
    notes += [f'{source.path}: {topic or "the video"} has {counts["backward"]} '
              f'stamp{"s" * (counts["backward"] > 1)} going back'
              for topic, counts in figures.items() if counts.get('backward')]
    if still:
        notes.append(f'{source.path}: {still} of {len(entry.topic)} frames left out because the '
                     'camera stood still')
    topic_of = [entry.topics[number] for number in entry.topic[row]]
    told = {key: value for key, value in entry.info.items() if key not in ('truth', 'used')}
    report = {'source': str(source.path), 'kind': source.kind, **told, 'used': len(row),
              'still': still, 'broken': sum(entry.info['broken'].values()),
              'left': sum(left[topic] for topic in entry.info['left_out']),
              'broken_of': entry.info['broken'], 'figures': figures}
    return Part(entry.images, row, clip, split[clip], topic_of, entry.stamp[row],
                entry.index[row], _labels(source, entry, row), entry.fingerprint, groups, notes,
                report, _values(source, entry, row))


def _labels(source: Source, entry: Entry, row: np.ndarray) -> dict[str, list[str | None]]:
    """:return: factor -> the label of each frame, from ground truth or the folder's name."""
    if source.kind == 'images':
        return {'class': [source.path.absolute().name] * len(row)}
    spoken = _spoken(entry, row)
    # Labels are words; numbers (a pose, a time) are no classes.
    names = sorted({name for labels in spoken for name, value in labels.items()
                    if isinstance(value, str)})
    return {name: [labels.get(name) for labels in spoken] for name in names}


def _spoken(entry: Entry, row: np.ndarray) -> list[dict[str, Any]]:
    """:return: what ground truth says of each frame."""
    truth = entry.info['truth']
    return [truth.get(int(entry.truth_key[i])) or truth.get(int(entry.stamp[i])) or {}
            for i in row]


def _values(source: Source, entry: Entry, row: np.ndarray) -> dict[str, np.ndarray]:
    """:return: name -> the number that came with each frame or from truth; NaN for none."""
    if source.kind == 'images':
        return {}
    own = dict(zip(entry.info['value_names'], entry.values[row].T, strict=True))
    spoken = _spoken(entry, row)

    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    names = sorted({name for labels in spoken for name, value in labels.items()
                    if is_number(value) and name != 'stamp'})
    return own | {name: np.array([labels[name] if is_number(labels.get(name)) else np.nan
                                  for labels in spoken], float) for name in names}
