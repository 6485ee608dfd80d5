"""All frames of all sources as one table: pixels, clips, splits, and labels for evaluation."""
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.data.cache import CacheError, Entry, default_cache_dir, load_entry
from imn_world_model.data.clips import (
    cut_causes,
    cut_clips,
    fill_splits,
    moving,
    split_clips,
    stamp_figures,
    unit_hash,
)
from imn_world_model.data.regions import Regions
from imn_world_model.data.shapes3d import load_shapes3d
from imn_world_model.data.sources import Source, find_sources
from imn_world_model.errors import UserError
from imn_world_model.preprocess import Crop


@dataclass(frozen=True)
class DataOptions:
    """
    How recordings become frames.

    :param size: side of the frames, pixels.
    :param crop: what is cut before resizing.
    :param topics: globs of the image topics to use; empty for all.
    :param gap: seconds without a frame that end a clip.
    :param scene_change: difference of two frames, in grey levels of a 16x16 thumbnail, that ends
        a clip.
    :param max_clip: frames after which a clip is ended anyway.
    :param still: frames are left out until the picture has changed by as many grey levels.
    :param fractions: share of clips (3Dshapes: of factor combinations) in validation and test.
    :param seed: of the split of clips.
    :param ground_truth_topic: topic of JSON strings whose values become labels. Evaluation only.
    :param regions: how objects are found in larger pictures; in place of ``crop``.
    :param cache_dir: of decoded frames; ``None`` for :func:`cache.default_cache_dir`.
    :param workers: decoding threads; 0 for one per core.
    """

    size: int = 64
    crop: Crop = field(default_factory=Crop)
    topics: tuple[str, ...] = ()
    gap: float = 1.0
    scene_change: float = 40.0
    max_clip: int = 1000
    still: float = 0.2
    fractions: tuple[float, float] = (0.05, 0.1)
    seed: int = 0
    ground_truth_topic: str | None = None
    regions: Regions = field(default_factory=Regions)
    cache_dir: Path | None = None
    workers: int = 0


class ImageStack:
    """
    Rows of several memory-mapped arrays as if they were one array of images.

    :param parts: arrays (N_i, S, S, 3) uint8, each with the rows (K_i,) that are used.
    """

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0] + [len(rows) for _, rows in parts])
        self.shape = (int(self.starts[-1]), *parts[0][0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """
        Read images.

        :param index: an int, a slice or an array of ints.
        :return: (S, S, 3) for an int, else (K, S, S, 3), uint8.
        """
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        wanted = np.asarray(index)
        if wanted.dtype == bool:
            wanted = np.flatnonzero(wanted)
        flat = np.atleast_1d(wanted).astype(np.int64)
        if ((flat < -len(self)) | (flat >= len(self))).any():
            raise IndexError(f'image {index} of {len(self)}')
        flat = np.where(flat < 0, flat + len(self), flat)
        result = np.empty((len(flat), *self.shape[1:]), np.uint8)
        part_of = np.searchsorted(self.starts, flat, side='right') - 1
        for part in np.unique(part_of):
            here = part_of == part
            array, rows = self.parts[part]
            result[here] = array[rows[flat[here] - self.starts[part]]]
        return result if np.ndim(wanted) else result[0]


@dataclass(frozen=True)
class Frames:
    """
    Frames ready for training. Frames of one clip show one object and lie in order of time.

    :param images: (N, S, S, 3) uint8 RGB, read when indexed.
    :param clip: (N,) int64, clip number over all sources.
    :param split: (N,) uint8: 0 train, 1 validation, 2 test.
    :param source: (N,) int32 into ``sources``.
    :param topic: (N,) int32 into ``topics``.
    :param stamp: (N,) int64 ns, 0 where unknown.
    :param index: (N,) int64 frame number in its source.
    :param sources: paths.
    :param topics: image topics.
    :param labels: EVALUATION ONLY: factor -> (N,) int64 class, -1 where unknown.
    :param label_names: factor -> names of its classes.
    :param values: EVALUATION ONLY: what ground truth tells in numbers, such as an angle -> (N,)
        float64, NaN where unknown.
    :param content_hash: of everything that was read.
    :param notes: what was left out and why, a line each.
    :param reports: per source what was seen, for ``data inspect``. Its frames ``recorded`` are
        the sum of ``used``, ``still`` (thinned), ``broken``, ``left`` (of topics left out) and
        ``lost`` (recorded, but never read).
    """

    images: ImageStack
    clip: np.ndarray
    split: np.ndarray
    source: np.ndarray
    topic: np.ndarray
    stamp: np.ndarray
    index: np.ndarray
    sources: tuple[str, ...]
    topics: tuple[str, ...]
    labels: dict[str, np.ndarray]
    label_names: dict[str, tuple[str, ...]]
    content_hash: str
    notes: tuple[str, ...]
    reports: tuple[dict[str, Any], ...]
    values: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One source's frames, before sources are put together; columns as in :class:`Frames`."""

    images: np.ndarray
    rows: np.ndarray
    clip: np.ndarray
    split: np.ndarray
    topic: list[str]
    stamp: np.ndarray
    index: np.ndarray
    labels: dict[str, list[str | None]]
    fingerprint: str
    notes: list[str]
    report: dict[str, Any]
    values: dict[str, np.ndarray] = field(default_factory=dict)


def load_frames(paths: list[Path] | list[str], options: DataOptions,
                progress: bool = True) -> Frames:
    """
    Everything that can be read below the paths.

    :param paths: files and folders of any kind, see :func:`sources.find_sources`.
    :param options: how they are read.
    :param progress: whether to show a bar while decoding.
    :raises UserError: when a path is missing or nothing usable is found.
    """
    names = ', '.join(map(str, paths))
    parts: list[tuple[Source, Part]] = []
    notes: list[str] = []
    for source in find_sources([Path(path) for path in paths], notes):
        try:
            part = _load_part(source, options, progress)
        except CacheError:
            raise                                     # no fault of the source
        except UserError as error:
            notes.append(str(error))
            continue
        except OSError as error:
            notes.append(f'{source.path} cannot be read ({error.strerror or error})')
            continue
        notes += part.notes
        parts.append((source, part))
    used = [(source, part) for source, part in parts if len(part.rows)]
    if not used:
        cause = f': {notes[0]}' if notes else '; no image topic, video, image or .h5 in there'
        raise UserError(f'nothing usable in {names}{cause}')
    return _join(used, options, tuple(notes), tuple(part.report for _, part in parts))


def _load_part(source: Source, options: DataOptions, progress: bool) -> Part:
    if source.kind == 'h5':
        table = load_shapes3d(source.path, options.size, options.fractions,
                              options.cache_dir or default_cache_dir(), progress)
        count = len(table.images)
        report = {'source': str(source.path), 'kind': 'h5', 'recorded': count, 'used': count}
        return Part(table.images, np.arange(count), table.clip, table.split, [''] * count,
                    np.zeros(count, np.int64), np.arange(count), table.labels,
                    table.fingerprint, [], report)
    entry = load_entry(source, options.size, options.crop, options.topics,
                       options.ground_truth_topic, options.cache_dir or default_cache_dir(),
                       options.workers or len(os.sched_getaffinity(0)), progress,
                       options.regions)
    return _cut(source, entry, options)


def _cut(source: Source, entry: Entry, options: DataOptions) -> Part:
    """:return: an entry's frames with clips, topic after topic, standstill left out."""
    rows: list[np.ndarray] = []
    clips: list[np.ndarray] = []
    names: list[str] = []
    figures: dict[str, dict[str, Any]] = {}
    for topic, topic_name in enumerate(entry.topics):
        own = np.flatnonzero(entry.topic == topic)
        stamp, change = entry.stamp[own], entry.change[own]
        if source.kind == 'images':                   # a folder of images has no order in time
            clip, keep = np.arange(len(own)), np.ones(len(own), bool)
            in_time: dict[str, Any] = {}
        else:
            clip = cut_clips(stamp, change, options.gap, options.scene_change, options.max_clip)
            keep = moving(change, clip, options.still)
            causes = cut_causes(stamp, change, clip, options.gap, options.scene_change)
            in_time = {'cuts': causes, **stamp_figures(stamp)}
        first = len(names)
        # The same camera's raw and compressed images must not end up in different splits.
        camera = topic_name.removesuffix('/compressed')
        names += [f'{entry.fingerprint}:{camera}:{number}' for number in range(int(clip[-1]) + 1)]
        rows.append(own[keep])
        clips.append(clip[keep] + first)
        figures[topic_name] = {
            'frames': len(own), 'still': int((~keep).sum()), 'clips': int(clip[-1]) + 1,
            'shortest': int(np.bincount(clip).min()), 'longest': int(np.bincount(clip).max()),
            **in_time}
    row = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    clip = np.concatenate(clips) if clips else np.zeros(0, np.int64)
    still = len(entry.topic) - len(row)
    notes = [f'{source.path}: {problem}' if str(source.path) not in problem else problem
             for problem in entry.info['problems']]
    left = entry.info['left_count']
    notes += [f'{source.path}: {topic} left out, {left[topic]} message{"s" * (left[topic] != 1)} '
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
    return Part(entry.images, row, clip, split_clips(names, options.fractions, options.seed)[clip],
                topic_of, entry.stamp[row], entry.index[row],
                _labels(source, entry, row), entry.fingerprint, notes, report,
                _values(source, entry, row))


def _labels(source: Source, entry: Entry, row: np.ndarray) -> dict[str, list[str | None]]:
    """:return: factor -> the label of each frame, from ground truth or the folder's name."""
    if source.kind == 'images':
        return {'class': [source.path.name] * len(row)}
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
    """:return: name -> the number that ground truth gives each frame; NaN for none."""
    if source.kind == 'images':
        return {}
    spoken = _spoken(entry, row)

    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    names = sorted({name for labels in spoken for name, value in labels.items()
                    if is_number(value) and name != 'stamp'})
    return {name: np.array([labels[name] if is_number(labels.get(name)) else np.nan
                            for labels in spoken], float) for name in names}


def _join(parts: list[tuple[Source, Part]], options: DataOptions, notes: tuple[str, ...],
          reports: tuple[dict[str, Any], ...]) -> Frames:
    columns: dict[str, list[np.ndarray]] = {name: [] for name in
                                            ('clip', 'split', 'source', 'stamp', 'index')}
    topic_names: list[str] = []
    next_clip = 0
    for number, (_, part) in enumerate(parts):
        columns['clip'].append(part.clip + next_clip)
        next_clip += int(part.clip.max()) + 1
        columns['split'].append(part.split)
        columns['source'].append(np.full(len(part.rows), number, np.int32))
        columns['stamp'].append(part.stamp)
        columns['index'].append(part.index)
        topic_names += part.topic
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    joined['split'] = _fill(joined['split'], joined['clip'], parts, options)
    topics, topic = np.unique(topic_names, return_inverse=True)
    labels, label_names = {}, {}
    for factor in sorted({name for _, part in parts for name in part.labels}):
        values = [value for _, part in parts
                  for value in part.labels.get(factor, [None] * len(part.rows))]
        known = _ordered({value for value in values if value is not None})
        number_of = {value: k for k, value in enumerate(known)}
        labels[factor] = np.array([number_of.get(value, -1) if value is not None else -1
                                   for value in values], np.int64)
        label_names[factor] = tuple(known)
    if len(label_names.get('class', ())) == 1:        # a flat folder of images tells no classes
        del labels['class'], label_names['class']
    numbers = {name: np.concatenate([part.values.get(name, np.full(len(part.rows), np.nan))
                                     for _, part in parts])
               for name in sorted({name for _, part in parts for name in part.values})}
    digest = hashlib.sha256(''.join(part.fingerprint for _, part in parts).encode())
    return Frames(
        images=ImageStack([(part.images, part.rows) for _, part in parts]),
        topic=topic.astype(np.int32), topics=tuple(map(str, topics)),
        sources=tuple(str(source.path) for source, _ in parts), labels=labels,
        label_names=label_names, content_hash=digest.hexdigest(), notes=notes, reports=reports,
        values=numbers, **joined)


def _fill(split: np.ndarray, clip: np.ndarray, parts: list[tuple[Source, Part]],
          options: DataOptions) -> np.ndarray:
    """:return: (N,) splits of which none is empty, even for many recordings of one clip each."""
    if len(np.unique(split)) == 3:
        return split
    of_clip = np.zeros(int(clip.max()) + 1, np.uint8)
    of_clip[clip] = split
    rank = [unit_hash(f'{options.seed}:{part.fingerprint}:{number}') for _, part in parts
            for number in range(int(part.clip.max()) + 1)]
    return fill_splits(of_clip, np.array(rank), options.fractions)[clip]


# The published order of 3Dshapes' shapes, so that tables read alike whatever the source.
SHAPE_ORDER = ('cube', 'cylinder', 'sphere', 'capsule')


def _ordered(values: set[str]) -> list[str]:
    """:return: class names: shapes as published, numbers by value, the rest by alphabet."""
    def key(value: str) -> tuple[int, float, str]:
        if value in SHAPE_ORDER:
            return 0, SHAPE_ORDER.index(value), value
        try:
            return 1, float(value), value
        except ValueError:
            return 2, 0.0, value
    return sorted(values, key=key)
