"""What a path holds, and its frames one by one: recordings, videos, folders of images."""
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from imn_world_model.data.bags import (
    IMAGE_TYPES,
    LFS_MAGIC,
    STORAGE_SUFFIXES,
    TEXT_TYPE,
    BagMessage,
    BagReport,
    is_bag,
    read_bag,
)
from imn_world_model.data.images import NOT_PICTURES, ImageError, compressed_to_rgb, message_to_rgb
from imn_world_model.errors import UserError

H5_SUFFIXES = ('.h5', '.hdf5')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v')
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
# Names that drivers give to topics of depth and masks.
DEPTH_WORDS = ('depth', 'disparity', 'mask', 'segmentation', 'confidence', 'range_image')


@dataclass(frozen=True)
class Source:
    """
    Something that holds frames.

    :param kind: how it is read.
    :param path: where it is.
    """

    kind: Literal['bag', 'h5', 'video', 'images']
    path: Path


@dataclass(frozen=True)
class RawFrame:
    """
    A frame before it is decoded.

    :param topic: image topic; the folder's name for images, empty for a video.
    :param stamp: ns, 0 where unknown. Of a message its header's, if that is set.
    :param load: decodes it to (H, W, 3) uint8 RGB; raises :class:`UserError` when broken.
    :param truth_key: stamp under which a ground-truth topic speaks of it.
    :param held: bytes of memory it holds until it is decoded.
    """

    topic: str
    stamp: int
    load: Callable[[], np.ndarray]
    truth_key: int = 0
    held: int = 0


@dataclass
class SourceReport:
    """
    What was seen on the way through a source.

    :param problems: what could not be read, a line each.
    :param topics: topic -> type, of everything in it.
    :param left_out: topic -> why.
    :param truth: stamp -> labels, from the ground-truth topic.
    :param lost: frames known to be recorded that never came; named in ``problems``.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    truth: dict[int, dict[str, Any]] = field(default_factory=dict)
    lost: int = 0


def find_sources(paths: list[Path]) -> list[Source]:
    """
    Look at what the user named; folders are searched to any depth.

    :raises UserError: for a path that does not exist, or a file of an unknown kind named directly.
    """
    sources: list[Source] = []
    for path in paths:
        if not path.exists():
            raise UserError(f'{path} does not exist; give a recording, a video, an image folder, '
                            'a 3Dshapes .h5 file or a folder of those')
        found = list(_walk(path))
        if path.is_file() and not found:
            raise UserError(f"{path} is of an unknown kind '{path.suffix}'; known: .h5, .mcap, "
                            f'.db3, {", ".join(VIDEO_SUFFIXES)}, folders of images')
        sources += found
    return sources


def _walk(path: Path) -> Iterator[Source]:
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in H5_SUFFIXES:
            yield Source('h5', path)
        elif is_bag(path):
            yield Source('bag', path)
        elif suffix in VIDEO_SUFFIXES:
            yield Source('video', path)
        return
    if (path / 'metadata.yaml').exists() and is_bag(path):
        yield Source('bag', path)
        return
    items = sorted(item for item in path.iterdir() if not item.name.startswith('.'))
    if any(item.suffix.lower() in IMAGE_SUFFIXES for item in items if item.is_file()):
        yield Source('images', path)
    for item in items:
        if item.is_dir() or item.suffix.lower() not in IMAGE_SUFFIXES:
            yield from _walk(item)


def source_files(source: Source) -> list[Path]:
    """:return: the files that make up a source, in a fixed order."""
    if source.path.is_file():
        return [source.path]
    suffixes = IMAGE_SUFFIXES if source.kind == 'images' else (*STORAGE_SUFFIXES, '.yaml')
    return sorted(item for item in source.path.iterdir()
                  if item.is_file() and item.name.lower().endswith(suffixes))


def read_frames(source: Source, topics: tuple[str, ...], truth_topic: str | None,
                report: SourceReport) -> Iterator[RawFrame]:
    """
    Go through a source once; nothing is decoded here.

    :param source: of kind ``bag``, ``video`` or ``images``.
    :param topics: globs of the image topics wanted; empty for all.
    :param truth_topic: topic of JSON strings with labels, for evaluation only.
    :param report: filled on the way.
    """
    if source.kind == 'bag':
        yield from _bag_frames(source.path, topics, truth_topic, report)
    elif source.kind == 'video':
        yield from _video_frames(source.path, report)
    else:
        for file in source_files(source):
            yield RawFrame(source.path.name, 0, partial(_image_file, file))


def _bag_frames(path: Path, topics: tuple[str, ...], truth_topic: str | None,
                report: SourceReport) -> Iterator[RawFrame]:
    bag = BagReport(report.problems, report.topics)
    accepted: set[str] = set()
    for message in read_bag(path, bag):
        if message.kind == TEXT_TYPE:
            if message.topic == truth_topic:
                _note_truth(message, report)
            continue
        if message.topic in report.left_out:
            continue
        if message.topic not in accepted:
            reason = _why_not(message, topics)
            if reason:
                report.left_out[message.topic] = reason
                continue
            accepted.add(message.topic)
        yield _message_frame(message)
    report.lost = bag.lost


def _note_truth(message: BagMessage, report: SourceReport) -> None:
    try:
        labels = json.loads(message.decode().data)
        report.truth[message.stamp] = labels
        report.truth[int(labels['stamp'])] = labels
    except (UserError, ValueError, TypeError, KeyError, AttributeError):
        report.problems.append(f'{message.topic}: a ground-truth message is not readable JSON')


def _why_not(message: BagMessage, topics: tuple[str, ...]) -> str:
    """:return: why an image topic is not used; empty when it is."""
    if topics:
        wanted = any(fnmatch(message.topic, pattern) for pattern in topics)
        return '' if wanted else 'not among --topics'
    if any(word in message.topic.lower() for word in DEPTH_WORDS):
        return 'depth or mask by its name'
    if message.kind == IMAGE_TYPES[0]:
        try:
            encoding = message.decode().encoding.lower()
        except UserError:
            return ''                                 # counted as a broken frame later
        if encoding in NOT_PICTURES:
            return f"depth or mask by its encoding '{encoding}'"
    return ''


def _message_frame(message: BagMessage) -> RawFrame:
    stamp = message.stamp
    if len(message.payload) >= 12 and message.payload[1] == 1 and message.payload[0] == 0:
        # Both image types begin with their time: two little-endian words after CDR's four bytes.
        seconds, nanoseconds = np.frombuffer(message.payload, '<u4', 2, 4)
        own = int(seconds) * 10 ** 9 + int(nanoseconds)
        stamp = own or stamp
    return RawFrame(message.topic, stamp, partial(_decode, message), message.stamp)


def _decode(message: BagMessage) -> np.ndarray:
    try:
        return message_to_rgb(message.decode())
    except ImageError as error:
        raise UserError(f'{message.topic}: {error}') from error


def _video_frames(path: Path, report: SourceReport) -> Iterator[RawFrame]:
    if _is_lfs_pointer(path):
        report.problems.append(f'{path} is a Git LFS pointer, not a video; run `git lfs pull`')
        return
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            report.problems.append(f'{path} cannot be opened as a video')
            return
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        while True:
            # The stamp of a frame is known before it is grabbed.
            stamp = int(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            valid, frame = capture.read()
            if not valid:
                break
            count += 1
            yield RawFrame('', stamp, partial(cv2.cvtColor, frame, cv2.COLOR_BGR2RGB))
        if count < expected:
            report.problems.append(f'{path} announces {expected} frames, {count} could be read')
    finally:
        capture.release()


def _image_file(file: Path) -> np.ndarray:
    if _is_lfs_pointer(file):
        raise UserError(f'{file} is a Git LFS pointer, not an image; run `git lfs pull`')
    try:
        return compressed_to_rgb(file.read_bytes(), file.suffix)
    except ImageError as error:
        raise UserError(f'{file}: {error}') from error


def _is_lfs_pointer(path: Path) -> bool:
    with path.open('rb') as stream:
        return stream.read(len(LFS_MAGIC)) == LFS_MAGIC
