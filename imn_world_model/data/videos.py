"""Frames of videos, with the time at which each is shown, and which of them are lost."""
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from imn_world_model.data.images import Halvings
from imn_world_model.data.raw import RawFrame, SourceReport, is_lfs_pointer

EBML, SEGMENT = b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'
# A video ends with so many frames in a row that cannot be read.
MAX_BROKEN = 300
# Seconds without a picture at the end of a video that are told.
SILENT = 1.0
# Share by which the steps in time may differ from that of the rate announced.
REGULAR = 0.1


@dataclass(frozen=True)
class _Container:
    """
    What a file says of itself.

    :param counts: whether it counts its frames; else FFmpeg takes its duration by some rate.
    :param is_cut: whether its end is missing.
    :param duration: s, once its edit list has cut it.
    """

    counts: bool = False
    is_cut: bool = False
    duration: float = float('inf')


def video_frames(path: Path, report: SourceReport) -> Iterator[RawFrame]:
    """
    Go through a video once; its topic is empty.

    :param path: a file.
    :param report: filled on the way.
    """
    if is_lfs_pointer(path):
        report.problems.append(f'{path} is a Git LFS pointer, not a video; run `git lfs pull`')
        return
    # FFmpeg takes what is before a colon for a protocol.
    capture = cv2.VideoCapture(str(path.absolute()))
    try:
        if not capture.isOpened():
            report.problems.append(f'{path} cannot be opened as a video')
            return
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        code = (int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, 'little')
        report.encodings[''] = code.decode('ascii', 'replace').strip('\0 ')
        rate = capture.get(cv2.CAP_PROP_FPS)
        times = array('d')
        step = 1e9 / rate if rate > 0 else 0.0
        failed = broken = 0
        while failed < MAX_BROKEN:
            valid, frame = capture.read()
            if not valid:                             # the end, or a frame that is damaged
                failed += 1
                continue
            broken, failed = broken + failed, 0
            told = capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6
            # Some files' last frames have time 0 (opencv#22141); in a video time goes on.
            last = times[-1] if times else 0.0
            step = told - last if times and told > last else step
            times.append(told if not times or told > last else last + step)
            # From 1 ns on: 0 stands for an unknown time.
            yield RawFrame('', 1 + int(times[-1]), partial(_rgb, frame), held=frame.nbytes)
        if broken:
            report.lost += broken
            report.problems.append(f'{path}: {broken} frame{"s" * (broken > 1)} cannot be decoded')
        _note_missing(path, expected, broken, rate, np.asarray(times) / 1e9, report)
    finally:
        capture.release()


def _rgb(frame: np.ndarray, halvings: Halvings | None) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _note_missing(path: Path, expected: int, broken: int, rate: float, times: np.ndarray,
                  report: SourceReport) -> None:
    """
    Tell what else is missing.

    Fewer frames than announced prove nothing: a file of variable rate may announce what a
    constant rate would give, and one cut by an edit list what it still holds.

    :param expected: number of frames announced.
    :param broken: how many of them are known to be.
    :param rate: Hz announced.
    :param times: (N,) s, of the frames that could be read.
    """
    missing = expected - len(times) - broken
    if missing <= 0 or rate <= 0:
        return
    if not len(times):
        report.lost += missing
        report.problems.append(f'{path}: none of about {missing} frames can be decoded')
        return
    with path.open('rb') as stream:
        told = _container(stream, path.stat().st_size)
    steps = np.diff(times) if len(times) > 1 else np.array([1 / rate])
    step = float(np.median(steps))
    end = min(expected / rate, told.duration)
    until = f'{path} ends after {times[-1]:.1f} of {end:.1f} s'
    if told.is_cut:
        lost = round((end - times[-1]) / steps.mean()) - 1
        if lost > 0:
            report.lost += lost
            report.problems.append(f'{until}: about {lost} frame{"s" * (lost > 1)} lost')
    elif told.counts and abs(step * rate - 1) < REGULAR:
        gaps = int((np.round(steps / step) - 1).sum()) - broken
        lost = min(missing, gaps + max(0, round((end - times[-1]) / step) - 1))
        if lost > 0:
            report.lost += lost
            report.problems.append(f'{path}: {lost} of {expected} frames missing')
    elif not told.counts and end - times[-1] > max(SILENT, 2 * steps.mean()):
        # Of Matroska it is the end of all that is in it, such as sound that goes on.
        report.problems.append(f'{until}, without a picture for the rest')


def _container(stream: BinaryIO, size: int) -> _Container:
    head = stream.read(12)
    if head[:4] == EBML:                              # Matroska, WebM
        return _Container(is_cut=_ends(stream) > size)
    if head[4:8] == b'ftyp':                          # MP4, MOV
        return _boxes(stream, size)
    if head[:4] == b'RIFF':                           # AVI; length 0 where its recorder was killed
        return _Container(True, int.from_bytes(head[4:8], 'little') + 8 > size)
    return _Container()


def _ends(stream: BinaryIO) -> int:
    """:return: where a Matroska file's segment ends; 0 where it does not say."""
    stream.seek(len(EBML))
    stream.seek(_length(stream)[0], 1)
    if stream.read(len(SEGMENT)) != SEGMENT:
        return 0
    length, is_known = _length(stream)
    return stream.tell() + length if is_known else 0


def _length(stream: BinaryIO) -> tuple[int, bool]:
    """:return: a length as EBML writes it, and whether it is known: all ones are not."""
    first = (stream.read(1) or b'\0')[0]
    more = 8 - first.bit_length()                     # bytes to follow: zeros before the first one
    bits = 7 * (more + 1)
    value = int.from_bytes(bytes([first]) + stream.read(more), 'big') & ((1 << bits) - 1)
    return value, value != (1 << bits) - 1


def _boxes(stream: BinaryIO, size: int) -> _Container:
    """:return: what the boxes of an MP4 file say."""
    place, duration = 0, float('inf')
    while place < size:
        stream.seek(place)
        head = stream.read(16)
        length = int.from_bytes(head[:4], 'big')
        if length == 1:                               # in 64 bits
            length = int.from_bytes(head[8:16], 'big')
        if head[4:8] == b'moov':
            duration = _movie_duration(head[8:] + stream.read(40))
        if length < 8:                                # to the end, or no box
            return _Container(True, duration=duration)
        place += length
    return _Container(True, place > size, duration)


def _movie_duration(header: bytes) -> float:
    """:return: s, from the header that is the first in a movie; infinity where unknown."""
    if header[4:8] != b'mvhd':
        return float('inf')
    wide = header[8] == 1                             # times of 64 bits
    start = 28 if wide else 20
    ticks = int.from_bytes(header[start:start + 4], 'big')
    count = int.from_bytes(header[start + 4:start + (12 if wide else 8)], 'big')
    return count / ticks if ticks and count else float('inf')
