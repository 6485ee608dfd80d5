"""
Decoded frames on disk, memory-mapped: each source is decoded once for one size, crop and topics.

A cache entry is a folder written under a temporary name and renamed when whole; a lock lets a
second builder of the same entry wait for the first. Nothing half-written is ever read.
"""
import errno
import hashlib
import json
import os
import shutil
import zlib
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import cv2
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from imn_world_model.base.cli import FULL, atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.data.clips import THUMBNAIL
from imn_world_model.data.images import MAX_HALVINGS
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.regions import Finder, Regions, finder
from imn_world_model.data.sources import expected_frames, read_frames, source_files
from imn_world_model.vision.preprocess import Crop, prepare
from imn_world_model.vision.regions import cut

NO_REGIONS = Regions()
# Changes whenever what is written below changes.
FORMAT = 8
BLOCK = 1 << 20
# What is kept of every frame beside its pixels.
COLUMNS = 'topic', 'stamp', 'truth_key', 'index', 'change', 'clip', 'values'
# Errors of a folder that cannot be written to.
FORBIDDEN = errno.EACCES, errno.EPERM, errno.EROFS
# Frames wait for a decoding thread up to this many bytes: raw 4K images have 25 MB each.
MAX_WAITING = 1 << 27


@dataclass(frozen=True)
class Entry:
    """
    The decoded frames of one source.

    :param images: (N, S, S, 3) uint8, memory-mapped.
    :param topic: (N,) index into ``topics``.
    :param stamp: (N,) ns, 0 where unknown.
    :param truth_key: (N,) key into ``truth``.
    :param index: (N,) frame number among the recorded ones, broken ones counted.
    :param change: (N,) grey levels since the topic's previous frame, see ``clips.frame_change``.
    :param clip: (N,) number of the clip where the source says so, else -1.
    :param values: (N, K) numbers that came with the frames, named by ``value_names`` of the info.
    :param topics: names.
    :param info: ``problems``, ``truth``, ``all_topics``, ``encodings``, ``left_out`` (topic ->
        why), ``left_count`` (topic -> messages), ``broken`` (topic -> frames), ``resolutions``
        (topic -> resolution -> frames), ``sequences`` (topic -> pattern and clock), ``recorded``
        and ``lost`` (counts).
    :param fingerprint: of the source's content.
    """

    images: np.ndarray
    topic: np.ndarray
    stamp: np.ndarray
    truth_key: np.ndarray
    index: np.ndarray
    change: np.ndarray
    clip: np.ndarray
    values: np.ndarray
    topics: tuple[str, ...]
    info: dict[str, Any]
    fingerprint: str


def default_cache_dir() -> Path:
    """:return: ``$IMN_CACHE_DIR``, or a folder under the user's cache."""
    try:
        base = os.environ.get('IMN_CACHE_DIR')
        if base:
            return Path(base).expanduser()
        # A relative path there is invalid, says the XDG base directory specification.
        shared = Path(os.environ.get('XDG_CACHE_HOME', '')).expanduser()
        folder = shared if shared.is_absolute() else Path('~/.cache').expanduser()
    except RuntimeError as error:
        raise CacheError(f'no place for the cache ({error}); set IMN_CACHE_DIR') from error
    return folder / 'imn_world_model'


def fingerprint(source: Source) -> str:
    """
    Tell sources apart by content without reading all of a large log.

    :return: hash of each file's name, size, and up to 32 blocks of 1 MiB spread evenly over it.
    """
    digest = hashlib.sha256()
    for file in source_files(source):
        size = file.stat().st_size
        digest.update(os.fsencode(file.name) + f':{size};'.encode())
        with file.open('rb') as stream:
            for start in np.unique(np.linspace(0, max(0, size - BLOCK), 32).astype(np.int64)):
                stream.seek(int(start))
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()


def load_entry(source: Source, size: int, crop: Crop, topics: tuple[str, ...],
               truth_topic: str | None, folder: Path, workers: int, progress: bool,
               regions: Regions = NO_REGIONS, sequences: str = 'auto') -> Entry:
    """
    Map a source's frames, decoding them first where that was not done yet.

    :param source: of any kind but ``h5``.
    :param size: side of the frames in pixels.
    :param crop: what is cut before resizing.
    :param topics: globs.
    :param truth_topic: topic of labels for evaluation, or ``None``.
    :param folder: of the cache.
    :param workers: decoding threads (OpenCV decodes outside Python's lock).
    :param progress: whether to show a bar.
    :param regions: how objects are found; then squares about them are cut, not ``crop``.
    :param sequences: which images of a folder follow each other, see :func:`sequences.arrange`.
    """
    content = fingerprint(source)
    # The fingerprint reads samples of a large file; a change between them shows in its time.
    changed = [file.stat().st_mtime_ns for file in source_files(source)]
    options = json.dumps([FORMAT, size, crop.mode, crop.roi, sorted(topics), truth_topic, changed,
                          *(['alone', crop.turn] if crop.background == 'remove' else []),
                          *([regions.boxes, regions.auto] if regions else []),
                          *([sequences] if source.kind == 'images' else [])])
    key = hashlib.sha256(f'{content}{options}'.encode()).hexdigest()[:32]
    with built_once(folder / key, lambda entry: _is_whole(entry, size)) as scratch:
        if scratch:
            scratch.mkdir()
            _build(source, size, crop, topics, truth_topic, scratch, workers, progress, regions,
                   sequences)
    return _map(folder / key, size, content, source)


class CacheError(UserError):
    """The cache itself cannot be used: no fault of the recording."""


@contextmanager
def built_once(entry: Path, is_whole: Callable[[Path], bool]) -> Iterator[Path | None]:
    """
    Give one builder at a time the place to write a cache entry to.

    :param entry: file or folder in the cache.
    :param is_whole: tells whether what is there can be used.
    :return: a temporary path that becomes the entry when the block ends well; ``None`` when the
        entry is there already, perhaps after waiting for another builder of it.
    :raises CacheError: when the cache cannot be written to or its disk is full.
    """
    if is_whole(entry):                               # needs no permission to write
        yield None
        return
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _locked(entry):
            if is_whole(entry):
                yield None
                return
            # By a builder that was killed, or by a machine that lost power.
            for left in (*entry.parent.glob(f'.{entry.name}.*'), entry):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            with atomic_path(entry) as scratch:
                yield scratch
    except OSError as error:
        if error.errno in FORBIDDEN:
            raise CacheError(f'cache folder {entry.parent} is not writable; set IMN_CACHE_DIR to '
                             'one that is') from error
        if error.errno in FULL:
            raise CacheError(f'no space left for the cache in {entry.parent}; free some or set '
                             'IMN_CACHE_DIR to a larger disk') from error
        raise


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """:raises CacheError: where the disk of the cache knows no locks."""
    lock = FileLock(entry.with_name(f'{entry.name}.lock'))
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in (*FORBIDDEN, *FULL):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise CacheError(f'cache folder {entry.parent} cannot be locked ({why}); set '
                         'IMN_CACHE_DIR to a local disk') from error
    try:
        yield
    finally:
        lock.release()


def _is_whole(entry: Path, size: int) -> bool:
    """
    Tell whether an entry can be used again.

    :return: False where some of it is missing or damaged, and where nothing could be read: what
        was wrong then may be mended now.
    """
    try:
        used = json.loads((entry / 'info.json').read_text())['used']
        # np.load leaves a file that it opened itself open where it is torn.
        with (entry / 'frames.npz').open('rb') as stream, np.load(stream) as columns:
            lengths = {len(columns[name]) for name in COLUMNS}
        return (used > 0 and lengths == {used}
                and (entry / 'images.bin').stat().st_size == used * size * size * 3)
    # Damage shows in many ways: no archive, a torn one, other bytes.
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error):
        return False


def _map(folder: Path, size: int, content: str, source: Source) -> Entry:
    info = _renamed(json.loads((folder / 'info.json').read_text()), source)
    info['truth'] = {int(stamp): labels for stamp, labels in info['truth'].items()}
    with np.load(folder / 'frames.npz') as columns:
        topic, stamp, truth_key, index, change, clip, values = (
            columns[name] for name in COLUMNS)
    shape = (len(topic), size, size, 3)
    images = (np.memmap(folder / 'images.bin', np.uint8, 'r', shape=shape) if len(topic)
              else np.zeros(shape, np.uint8))
    return Entry(images, topic, stamp, truth_key, index, change, clip, values,
                 tuple(info['topics']), info, content)


def _renamed(info: dict[str, Any], source: Source) -> dict[str, Any]:
    """:return: an entry's report, with the name that its source has now."""
    old = Path(info.pop('path'))
    info['problems'] = [problem.replace(str(old), str(source.path))
                        for problem in info['problems']]
    if source.kind == 'images':                       # whose topics begin with the folder's name
        def name(topic: str) -> str:
            return source.path.absolute().name + topic[len(old.name):]
        info['topics'] = [name(topic) for topic in info['topics']]
        for key in ('encodings', 'sequences', 'resolutions', 'broken', 'left_out', 'left_count'):
            info[key] = {name(topic): value for topic, value in info[key].items()}
    return info


def _build(source: Source, size: int, crop: Crop, topics: tuple[str, ...],
           truth_topic: str | None, folder: Path, workers: int, progress: bool,
           regions: Regions, sequences: str) -> None:
    """Decode a source into a folder; memory holds a few frames at a time."""
    find = finder(source, topics, regions, sequences)
    report = SourceReport()
    columns = _Columns()
    # By its whole path, which is told from other words of a problem when it has a new name.
    here = Source(source.kind, source.path.absolute())
    frames = read_frames(here, topics, truth_topic, report, folder, sequences)
    bar = tqdm(desc=f'decoding {source.path.name}', unit=' frames', disable=not progress,
               leave=False, total=expected_frames(source, topics) if progress else None)
    with (folder / 'images.bin').open('wb') as stream, bar:
        for number, (frame, result) in enumerate(_decoded(frames, size, crop, workers, find)):
            bar.update()
            columns.add(number, frame, result, stream)
    columns.save(folder, here, report)


def _decoded(frames: Iterator[RawFrame], size: int, crop: Crop, workers: int,
             find: Finder | None = None
             ) -> Iterator[tuple[RawFrame, tuple[np.ndarray, str] | UserError]]:
    """:return: frames in order with (S, S, 3) pixels and resolution, or why there are none."""
    def decode(frame: RawFrame) -> tuple[np.ndarray, str] | UserError:
        halved = 0

        def halvings(height: int, width: int) -> int:
            nonlocal halved
            halved = min(crop.halvings(height, width, size), MAX_HALVINGS)
            return halved

        try:
            rgb = frame.load(None if find else halvings)
            height, width = (side << halved for side in rgb.shape[:2])
            region = find(frame, rgb) if find else None
            pixels = (prepare(rgb, size, crop) if region is None
                      else cut(rgb, region, size, crop))
            return pixels, f'{width}x{height}'
        except UserError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[RawFrame, Future]] = deque()
        held = 0
        for frame in frames:
            waiting.append((frame, pool.submit(decode, frame)))
            held += frame.held
            while len(waiting) > 4 * workers or held > MAX_WAITING:
                first, future = waiting.popleft()
                held -= first.held
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


class _Columns:
    """What is kept of each frame beside its pixels."""

    def __init__(self) -> None:
        # 48 bytes a frame and its values: a long log has millions.
        self.numbers = {name: array('q')
                        for name in ('topic', 'stamp', 'truth_key', 'index', 'clip')}
        self.change, self.values = array('d'), array('d')
        self.topics: dict[str, int] = {}
        self.last: dict[int, np.ndarray] = {}
        self.resolutions: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.broken: Counter[str] = Counter()
        self.first_cause: dict[str, str] = {}

    def add(self, number: int, frame: RawFrame, result: tuple[np.ndarray, str] | UserError,
            stream: BinaryIO) -> None:
        """Take a frame in, or count it as broken."""
        if isinstance(result, UserError):
            self.broken[frame.topic] += 1
            self.first_cause.setdefault(frame.topic, str(result))
            return
        pixels, resolution = result
        topic = self.topics.setdefault(frame.topic, len(self.topics))
        small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        change = (cv2.norm(small, self.last[topic], cv2.NORM_L1) / small.size
                  if topic in self.last else 0.0)
        self.last[topic] = small
        self.resolutions[frame.topic][resolution] += 1
        for name, value in (('topic', topic), ('stamp', frame.stamp),
                            ('truth_key', frame.truth_key), ('index', number),
                            ('clip', frame.clip)):
            self.numbers[name].append(value)
        self.change.append(change)
        self.values.extend(frame.values)
        stream.write(pixels.data)

    def save(self, folder: Path, source: Source, report: SourceReport) -> None:
        """Write the columns and the report."""
        columns: dict[str, Any] = {name: np.asarray(values)
                                   for name, values in self.numbers.items()}
        values = np.asarray(self.values).reshape(len(self.change), len(report.value_names))
        np.savez(folder / 'frames.npz', change=np.asarray(self.change), values=values, **columns)
        problems = report.problems + [
            f'{count} broken frame{"s" if count > 1 else ""} left out, the first: '
            f'{self.first_cause[topic]}' for topic, count in self.broken.items()]
        # Messages of unknown types may be no images: they are told of, but are no frames.
        left_frames = sum(report.left_count[topic] for topic in report.left_out)
        used = len(self.change)
        info = {'topics': list(self.topics), 'all_topics': report.topics,
                'encodings': report.encodings, 'left_out': report.left_out,
                'left_count': report.left_count, 'problems': problems, 'broken': self.broken,
                'used': used, 'lost': report.lost, 'resolutions': self.resolutions,
                'recorded': used + self.broken.total() + left_frames + report.lost,
                'sequences': report.sequences, 'path': str(source.path), 'truth': report.truth,
                'value_names': report.value_names}
        (folder / 'info.json').write_text(json.dumps(info))
