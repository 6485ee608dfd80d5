"""Frames of LeRobot data sets, episode by episode, with the actions that belong to them."""
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.data.bags import LFS_MAGIC
from imn_world_model.data.images import Halvings, compressed_to_rgb
from imn_world_model.data.lerobot_meta import DataSet, Episode, parquet, read_description
from imn_world_model.data.raw import RawFrame, SourceReport
from imn_world_model.data.topics import unwanted

# Pictures inside a Parquet file are read so many at a time.
BATCH = 32


def lerobot_frames(root: Path, topics: tuple[str, ...], report: SourceReport
                   ) -> Iterator[RawFrame]:
    """
    Go through a data set, camera after camera.

    :param root: its folder.
    :param topics: globs of the cameras wanted; empty for all.
    :param report: filled on the way.
    :return: frames whose clip is the episode, whose stamp is the time in it, and whose values
        are the actions: NaN where they cannot be read.
    :raises UserError: when ``meta/`` is broken, or pyarrow is not installed.
    """
    parquet()
    told = read_description(root)
    report.value_names = tuple(name for names in told.actions.values() for name in names)
    rows = _Rows(told)
    for camera, kind in told.cameras.items():
        report.topics[camera] = kind
        reason = unwanted(camera, topics)
        if camera in told.depth and not reason:
            reason = 'depth by meta/info.json'
        if reason:
            report.left_out[camera] = reason
            report.left_count[camera] += sum(episode.length for episode in told.episodes)
            continue
        report.encodings[camera] = told.codecs.get(camera, kind)
        pictures = _from_videos if kind == 'video' else _from_tables
        read: Counter[int] = Counter()
        for episode, step, load, held in pictures(told, camera, rows.faults):
            read[episode.number] += 1
            stamp, values = rows.at(episode, step)
            yield RawFrame(camera, stamp, load, held=held, clip=episode.number, values=values)
        _count_lost(told, camera, read, report)
    for cause, files in rows.faults.items():
        one = len(files) == 1
        first = str(files[0])
        report.problems.append(f'{first} {cause}' if one else
                               f'{len(files)} files, the first {first}: {cause}')


Picture = tuple[Episode, int, Any, int]
# What is wrong -> files of which that is so.
Faults = defaultdict[str, list[Path]]


def _count_lost(told: DataSet, camera: str, read: Counter[int], report: SourceReport) -> None:
    short = [episode for episode in told.episodes if read[episode.number] < episode.length]
    report.lost += sum(episode.length - read[episode.number] for episode in short)
    cut = [episode for episode in short if read[episode.number]]
    if cut:
        first = cut[0]
        report.problems.append(
            f'{camera}: {len(cut)} episode{"s" * (len(cut) > 1)} cut short, the first: episode '
            f'{first.number} announces {first.length} frames, {read[first.number]} could be read')


def _fault(file: Path) -> str:
    """:return: why a file cannot be opened; empty when it can."""
    try:
        with file.open('rb') as stream:
            head = stream.read(len(LFS_MAGIC))
    except FileNotFoundError:
        return 'is not there'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    return 'is a Git LFS pointer; run `git lfs pull`' if head == LFS_MAGIC else ''


def _from_videos(told: DataSet, camera: str, faults: Faults) -> Iterator[Picture]:
    files: defaultdict[Path, list[Episode]] = defaultdict(list)
    for episode in told.episodes:
        files[episode.videos[camera].path].append(episode)
    for file, episodes in files.items():
        fault = _fault(file)
        if fault:
            faults[fault].append(file)
            continue
        capture = cv2.VideoCapture(str(file.absolute()))
        try:
            if not capture.isOpened():
                faults['cannot be opened as a video'].append(file)
                continue
            yield from _cut_video(capture, camera, episodes, told.rate)
        finally:
            capture.release()


def _cut_video(capture: cv2.VideoCapture, camera: str, episodes: list[Episode], rate: float
               ) -> Iterator[Picture]:
    """:return: a video's frames, each by the time at which it is shown; those of none left out."""
    episodes = sorted(episodes, key=lambda episode: episode.videos[camera].start)
    here, begin = 0, None
    while True:
        valid, bgr = capture.read()
        if not valid:
            return
        time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        begin = time if begin is None else begin
        time -= begin
        while (here + 1 < len(episodes)
               and time >= episodes[here + 1].videos[camera].start - 0.5 / rate):
            here += 1
        episode = episodes[here]
        step = round((time - episode.videos[camera].start) * rate)
        if 0 <= step < episode.length:
            yield episode, step, partial(_rgb, bgr), bgr.nbytes


def _from_tables(told: DataSet, camera: str, faults: Faults) -> Iterator[Picture]:
    reader = parquet()
    by_number = {episode.number: episode for episode in told.episodes}
    for file in dict.fromkeys(episode.data for episode in told.episodes):
        fault = _fault(file)
        if fault:
            faults[fault].append(file)
            continue
        try:
            for batch in reader.ParquetFile(file).iter_batches(
                    BATCH, columns=['episode_index', 'frame_index', camera]):
                for row in batch.to_pylist():
                    picture = row[camera] or {}
                    data = picture.get('bytes') or b''
                    episode = by_number[row['episode_index']]
                    yield episode, row['frame_index'], partial(_unpack, data), len(data)
        except Exception:                             # pyarrow's are of many kinds
            faults['cannot be read as Parquet'].append(file)


def _rgb(bgr: np.ndarray, halvings: Halvings | None) -> np.ndarray:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _unpack(data: bytes, halvings: Halvings | None) -> np.ndarray:
    return compressed_to_rgb(data, 'image', halvings, file=True)


class _Rows:
    """
    Stamps and actions of episodes; holds those of one file at a time.

    :param told: the data set.
    """

    def __init__(self, told: DataSet) -> None:
        self.told = told
        self.faults: Faults = defaultdict(list)
        self._unknown = (np.nan,) * sum(map(len, told.actions.values()))
        self._file: Path | None = None
        self._seconds: dict[tuple[int, int], float] = {}
        self._values: dict[tuple[int, int], tuple[float, ...]] = {}

    def at(self, episode: Episode, step: int) -> tuple[int, tuple[float, ...]]:
        """:return: stamp in ns from 1 on, since 0 stands for an unknown time, and values."""
        if episode.data != self._file:
            self._open(episode.data)
        key = episode.number, step
        seconds = self._seconds.get(key, step / self.told.rate)
        return 1 + round(seconds * 1e9), self._values.get(key, self._unknown)

    def _open(self, file: Path) -> None:
        self._file, self._seconds, self._values = file, {}, {}
        fault = _fault(file)
        try:
            if not fault:
                self._read(file)
        except Exception:                             # pyarrow's are of many kinds
            fault = 'cannot be read as Parquet: its frames are without actions'
        if fault and file not in self.faults[fault]:
            self.faults[fault].append(file)

    def _read(self, file: Path) -> None:
        reader = parquet()
        names = ['episode_index', 'frame_index', 'timestamp', *self.told.actions]
        table = reader.read_table(file, columns=names)
        count = len(table)
        number, step, seconds = (_matrix(table.column(name), count)[:, 0] for name in names[:3])
        keys = list(zip(number.astype(int).tolist(), step.astype(int).tolist()))
        self._seconds = dict(zip(keys, seconds.tolist()))
        parts = [_matrix(table.column(name), count) for name in names[3:]]
        values = np.concatenate([np.zeros((count, 0)), *parts], axis=1)
        if values.shape[1] != len(self._unknown):
            raise ValueError
        self._values = dict(zip(keys, map(tuple, values.tolist())))


def _matrix(column: Any, count: int) -> np.ndarray:
    """:return: (count, K) float64 of a column of numbers, or of lists of K numbers."""
    flat = column.combine_chunks()
    while hasattr(flat.type, 'value_type'):           # a list, perhaps of lists
        flat = flat.flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), float).reshape(count, -1)
