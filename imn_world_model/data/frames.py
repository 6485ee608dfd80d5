"""All frames of all sources as one table: pixels, clips, splits, and labels for evaluation."""
import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.cache import CacheError, Entry, default_cache_dir, load_entry
from imn_world_model.data.clips import fill_splits, unit_hash
from imn_world_model.data.options import DataOptions as DataOptions
from imn_world_model.data.parts import Part, cut_entries
from imn_world_model.data.shapes3d import load_shapes3d
from imn_world_model.data.sources import Source, find_sources


class ImageRows(Protocol):
    """Images (N, S, S, 3) uint8 that are read when indexed, by a number or an array of numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...


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
    :param values: EVALUATION ONLY: what ground truth tells in numbers, such as an angle, and
        what a robot did, such as ``action.gripper`` -> (N,) float64, NaN where unknown.
    :param content_hash: of everything that was read.
    :param notes: what was left out and why, a line each.
    :param reports: per source what was seen, for ``data inspect``. Its frames ``recorded`` are
        the sum of ``used``, ``still`` (thinned), ``broken``, ``left`` (of topics left out) and
        ``lost`` (recorded, but never read).
    """

    images: ImageRows
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
    read: list[tuple[Source, Part | Entry]] = []
    notes: list[str] = []
    found: list[str] = []
    for source in find_sources([Path(path) for path in paths], found):
        try:
            read.append((source, _read(source, options, progress)))
        except CacheError:
            raise                                     # no fault of the source
        except UserError as error:
            notes.append(str(error))
        except OSError as error:
            notes.append(f'{source.path} cannot be read ({error.strerror or error})')
    cut = iter(cut_entries([(source, one) for source, one in read if isinstance(one, Entry)],
                           options))
    parts = [(source, next(cut) if isinstance(one, Entry) else one) for source, one in read]
    notes += [note for _, part in parts for note in part.notes]
    takes = [source for source, one in read if isinstance(one, Entry) and one.info['sequences']]
    if takes and options.sequences == 'auto':
        count, what = ((f'{len(takes)} folders', 'sequences') if len(takes) > 1
                       else ('1 folder', 'a sequence'))
        notes.append(f'{count} of numbered or time-stamped images read as {what}, such as '
                     f'{takes[0].path}; --sequences none takes every image on its own')
    used = [(source, part) for source, part in parts if len(part.rows)]
    notes += _say_together(used)
    if not used:
        notes += found
        cause = f': {notes[0]}' if notes else '; no image topic, video, image or .h5 in there'
        raise UserError(f'nothing usable in {names}{cause}')
    return _join(used, options, (*notes, *found), tuple(part.report for _, part in parts))


def _say_together(parts: list[tuple[Source, Part]]) -> list[str]:
    """:return: a line where sources share groups, as cameras do that recorded at one time."""
    holders: defaultdict[str, list[Path]] = defaultdict(list)
    for source, part in parts:
        for group in set(part.groups):
            holders[group].append(source.path)
    several = [paths for paths in holders.values() if len(paths) > 1]
    if not several:
        return []
    first = min(several)
    count = len(set().union(*several))
    return [f'{count} recordings lie at the same time, or are copies, such as '
            f'{first[0]} and {first[1]}: they share their splits']


def _read(source: Source, options: DataOptions, progress: bool) -> Part | Entry:
    """:return: a source's frames, ready to be cut or, of a .h5 file, cut already."""
    if source.kind == 'h5':
        table = load_shapes3d(source.path, options.size, options.fractions,
                              options.cache_dir or default_cache_dir(), progress,
                              options.crop)
        count = len(table.images)
        report = {'source': str(source.path), 'kind': 'h5', 'recorded': count, 'used': count}
        return Part(table.images, np.arange(count), table.clip, table.split, [''] * count,
                    np.zeros(count, np.int64), np.arange(count), table.labels,
                    table.fingerprint, [], [], report)
    return load_entry(source, options.size, options.crop, options.topics,
                      options.ground_truth_topic, options.cache_dir or default_cache_dir(),
                      options.workers or len(os.sched_getaffinity(0)), progress,
                      options.regions, options.sequences)


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
    names = [(part.fingerprint, number) for _, part in parts
             for number in range(int(part.clip.max()) + 1)]
    rank = np.array([unit_hash(f'{options.seed}:{content}:{number}') for content, number in names])
    groups = [part.groups[number] if part.groups else f'{source.path}:{number}'
              for source, part in parts for number in range(int(part.clip.max()) + 1)]
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return fill_splits(of_clip[first], rank[first], options.fractions)[group][clip]


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
