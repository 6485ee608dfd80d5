"""
Decoded frames on disk, memory-mapped: each source is decoded once for one size, crop and topics.

A cache entry is a folder written under a temporary name and renamed when whole; a lock lets a
second builder of the same entry wait for the first. Nothing half-written is ever read.
"""
import hashlib
import json
import os
import shutil
from array import array
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from imn_world_model.cli import atomic_path
from imn_world_model.data.clips import THUMBNAIL
from imn_world_model.data.sources import (
    RawFrame,
    Source,
    SourceReport,
    read_frames,
    source_files,
)
from imn_world_model.errors import UserError
from imn_world_model.preprocess import Crop, prepare

# Changes whenever what is written below changes.
FORMAT = 2
BLOCK = 1 << 20
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
    :param topics: names.
    :param info: ``problems``, ``left_out``, ``truth``, ``broken`` (count), ``recorded`` (count),
        ``lost`` (count), ``all_topics``, ``resolutions``.
    :param fingerprint: of the source's content.
    """

    images: np.ndarray
    topic: np.ndarray
    stamp: np.ndarray
    truth_key: np.ndarray
    index: np.ndarray
    change: np.ndarray
    topics: tuple[str, ...]
    info: dict[str, Any]
    fingerprint: str


def default_cache_dir() -> Path:
    """:return: ``$IMN_CACHE_DIR``, or a folder under the user's cache."""
    base = os.environ.get('IMN_CACHE_DIR')
    if base:
        return Path(base)
    return Path(os.environ.get('XDG_CACHE_HOME', '~/.cache')).expanduser() / 'imn_world_model'


def fingerprint(source: Source) -> str:
    """
    Tell sources apart by content without reading all of a large log.

    :return: hash of each file's name, size, and up to 32 blocks of 1 MiB spread evenly over it.
    """
    digest = hashlib.sha256()
    for file in source_files(source):
        size = file.stat().st_size
        digest.update(f'{file.name}:{size};'.encode())
        with file.open('rb') as stream:
            for start in np.unique(np.linspace(0, max(0, size - BLOCK), 32).astype(np.int64)):
                stream.seek(int(start))
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()


def load_entry(source: Source, size: int, crop: Crop, topics: tuple[str, ...],
               truth_topic: str | None, folder: Path, workers: int, progress: bool) -> Entry:
    """
    Map a source's frames, decoding them first where that was not done yet.

    :param source: of kind ``bag``, ``video`` or ``images``.
    :param size: side of the frames in pixels.
    :param crop: what is cut before resizing.
    :param topics: globs.
    :param truth_topic: topic of labels for evaluation, or ``None``.
    :param folder: of the cache.
    :param workers: decoding threads (OpenCV decodes outside Python's lock).
    :param progress: whether to show a bar.
    """
    content = fingerprint(source)
    # The fingerprint reads samples of a large file; a change between them shows in its time.
    changed = [file.stat().st_mtime_ns for file in source_files(source)]
    options = json.dumps([FORMAT, size, crop.mode, crop.roi, sorted(topics), truth_topic, changed])
    key = hashlib.sha256(f'{content}{options}'.encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f'{key}.lock'):
            if not (folder / key).exists():
                for left in folder.glob(f'.{key}.*'):  # by a builder that was killed
                    shutil.rmtree(left, ignore_errors=True)
                with atomic_path(folder / key) as scratch:
                    scratch.mkdir()
                    _build(source, size, crop, topics, truth_topic, scratch, workers, progress)
    except PermissionError as error:
        raise UserError(f'cache folder {folder} is not writable; set IMN_CACHE_DIR to one that '
                        'is') from error
    return _map(folder / key, size, content)


def _map(folder: Path, size: int, content: str) -> Entry:
    info = json.loads((folder / 'info.json').read_text())
    info['truth'] = {int(stamp): labels for stamp, labels in info['truth'].items()}
    with np.load(folder / 'frames.npz') as columns:
        topic, stamp, truth_key, index, change = (
            columns[name] for name in ('topic', 'stamp', 'truth_key', 'index', 'change'))
    shape = (len(topic), size, size, 3)
    images = (np.memmap(folder / 'images.bin', np.uint8, 'r', shape=shape) if len(topic)
              else np.zeros(shape, np.uint8))
    return Entry(images, topic, stamp, truth_key, index, change, tuple(info['topics']), info,
                 content)


def _build(source: Source, size: int, crop: Crop, topics: tuple[str, ...],
           truth_topic: str | None, folder: Path, workers: int, progress: bool) -> None:
    """Decode a source into a folder; memory holds a few frames at a time."""
    report = SourceReport()
    columns = _Columns()
    frames = read_frames(source, topics, truth_topic, report)
    bar = tqdm(desc=f'decoding {source.path.name}', unit=' frames', disable=not progress)
    with (folder / 'images.bin').open('wb') as stream, bar:
        for number, (frame, result) in enumerate(_decoded(frames, size, crop, workers)):
            bar.update()
            columns.add(number, frame, result, stream)
    columns.save(folder, report)


def _decoded(frames: Iterator[RawFrame], size: int, crop: Crop,
             workers: int) -> Iterator[tuple[RawFrame, tuple[np.ndarray, str] | UserError]]:
    """:return: frames in order with (S, S, 3) pixels and resolution, or why there are none."""
    def decode(frame: RawFrame) -> tuple[np.ndarray, str] | UserError:
        try:
            rgb = frame.load()
            return prepare(rgb, size, crop), f'{rgb.shape[1]}x{rgb.shape[0]}'
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
        # 40 bytes a frame: a long log has millions.
        self.numbers = {name: array('q') for name in ('topic', 'stamp', 'truth_key', 'index')}
        self.change = array('d')
        self.topics: dict[str, int] = {}
        self.last: dict[int, np.ndarray] = {}
        self.resolutions: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.first_cause: dict[str, str] = {}
        self.recorded = 0

    def add(self, number: int, frame: RawFrame, result: tuple[np.ndarray, str] | UserError,
            stream: BinaryIO) -> None:
        """Take a frame in, or count it as broken."""
        self.recorded += 1
        if isinstance(result, UserError):
            self.broken[frame.topic] = self.broken.get(frame.topic, 0) + 1
            self.first_cause.setdefault(frame.topic, str(result))
            return
        pixels, resolution = result
        topic = self.topics.setdefault(frame.topic, len(self.topics))
        small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        change = (cv2.norm(small, self.last[topic], cv2.NORM_L1) / small.size
                  if topic in self.last else 0.0)
        self.last[topic] = small
        name = f'{frame.topic} {resolution}'
        self.resolutions[name] = self.resolutions.get(name, 0) + 1
        for name, value in (('topic', topic), ('stamp', frame.stamp),
                            ('truth_key', frame.truth_key), ('index', number)):
            self.numbers[name].append(value)
        self.change.append(change)
        stream.write(pixels.data)

    def save(self, folder: Path, report: SourceReport) -> None:
        """Write the columns and the report."""
        columns: dict[str, Any] = {name: np.asarray(values)
                                   for name, values in self.numbers.items()}
        np.savez(folder / 'frames.npz', change=np.asarray(self.change), **columns)
        problems = report.problems + [
            f'{count} broken frame{"s" if count > 1 else ""} left out, the first: '
            f'{self.first_cause[topic]}' for topic, count in self.broken.items()]
        info = {'topics': list(self.topics), 'all_topics': report.topics,
                'left_out': report.left_out, 'problems': problems,
                'broken': sum(self.broken.values()), 'recorded': self.recorded + report.lost,
                'lost': report.lost,
                'resolutions': self.resolutions, 'truth': report.truth}
        (folder / 'info.json').write_text(json.dumps(info))
