"""What a path holds, and its frames one by one: recordings, videos, folders of images."""
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import is_own_picture, is_run
from imn_world_model.data.bags import (
    METADATA,
    STORAGE_SUFFIXES,
    TEXT_TYPE,
    BagMessage,
    BagReport,
    is_bag,
    is_recording,
    is_ros1,
    promised_images,
    read_bag,
)
from imn_world_model.data.encodings import ImageError, Levels
from imn_world_model.data.images import (
    Halvings,
    compressed_to_rgb,
    depth_reason,
    has_pages,
    message_to_rgb,
    needs_levels,
)
from imn_world_model.data.lerobot import lerobot_frames
from imn_world_model.data.lerobot_meta import is_lerobot, lerobot_files
from imn_world_model.data.packed import HEAD_BYTES, Head, read_head
from imn_world_model.data.passed import PassedOver
from imn_world_model.data.raw import (
    RawFrame,
    Source,
    SourceReport,
    decoded_in_order,
    is_lfs_pointer,
    say_levels,
)
from imn_world_model.data.sequences import arrange, place
from imn_world_model.data.sqlite_storage import PENDING
from imn_world_model.data.storage import printable
from imn_world_model.data.timetables import may_be_timetable, tell_times, timetables
from imn_world_model.data.topics import DEPTH_WORDS, find_twins, unwanted
from imn_world_model.data.videos import video_frames

H5_SUFFIXES = ('.h5', '.hdf5')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v')
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
TIFF = (b'II', b'MM')
# What SQLite writes beside its file.
COMPANIONS = tuple(f'.db3{end}' for end in (PENDING, '-shm', '-journal'))


def find_sources(paths: list[Path], notes: list[str] | None = None) -> list[Source]:
    """
    Look at what the user named; folders are searched to any depth, each place once.

    :param paths: files and folders.
    :param notes: gets a line for each thing that looks like data but cannot be read, and one for
        each kind of file that is passed over.
    :raises UserError: for a path that does not exist, or a file of an unknown kind named directly.
    """
    sources: list[Source] = []
    notes = [] if notes is None else notes
    seen: set[Path] = set()
    passed = PassedOver()
    for path in paths:
        if not path.exists():
            raise UserError(f'{path} does not exist; give a recording, a video, an image folder, '
                            'a 3Dshapes .h5 file or a folder of those')
        known = path.resolve() in seen
        num_notes = len(notes)
        found = list(_walk(path, seen, notes, passed))
        if path.is_file() and not (known or found or notes[num_notes:]):
            raise UserError(f"{path} is of an unknown kind '{path.suffix}'; known: .h5, .mcap, "
                            f'.db3, .bag, {", ".join(VIDEO_SUFFIXES)}, folders of images')
        sources += found
    used = {file for source in sources if source.kind == 'images'
            for file in timetables(source.path)}
    for file in passed.lists:
        if file.absolute() not in used:
            passed.add(file)
    notes += passed.lines()
    return sources


def _walk(path: Path, seen: set[Path], notes: list[str],
          passed: PassedOver) -> Iterator[Source]:
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        if suffix in (*H5_SUFFIXES, *VIDEO_SUFFIXES) or _is_log(path):
            notes.append(f'{path} is a link to something that is not there')
        elif suffix in IMAGE_SUFFIXES:
            passed.add_kind('link to an image that is not there',
                            'links to images that are not there', '', path)
        else:
            passed.add_kind('link to something that is not there',
                            'links to something that is not there', '', path)
        return
    real = path.resolve()
    if real in seen:                                  # a link to a folder further up, or twice
        return
    seen.add(real)
    if path.is_dir():
        yield from _walk_folder(path, seen, notes, passed)
    elif not path.is_file():
        passed.add_kind('socket, pipe or device', 'sockets, pipes and devices', '', path)
    elif suffix in H5_SUFFIXES:
        yield Source('h5', path)
    elif _is_log(path):
        yield Source('bag', path)
    elif suffix in VIDEO_SUFFIXES:
        yield Source('video', path)
    elif may_be_timetable(path):
        passed.lists.append(path)
    elif not path.name.lower().endswith(COMPANIONS):
        passed.add(path)


def _walk_folder(path: Path, seen: set[Path], notes: list[str],
                 passed: PassedOver) -> Iterator[Source]:
    if is_run(path):
        passed.add_kind('run folder of imn_world_model', 'run folders of imn_world_model',
                        'what is in there is no data', path)
        return
    if is_lerobot(path):
        yield Source('lerobot', path)
        return
    try:
        items = sorted(path.iterdir())
    except OSError as error:
        notes.append(f'{path} cannot be read ({error.strerror})')
        return
    for item in items:
        if item.name.startswith('.') and item.is_dir():
            passed.add_kind('hidden folder', 'hidden folders', '', item)
        elif item.name.startswith('.') and _looks_like_data(item):
            passed.add_kind('hidden file', 'hidden files', '', item)
    items = [item for item in items if not item.name.startswith('.')]
    if is_recording(path):
        yield Source('bag', path)
        items = [item for item in items
                 if not ((is_bag(item) or item.name == METADATA) and item.is_file())]
    if any(_is_image(item) for item in items):
        yield Source('images', path)
    for item in items:
        if not _is_image(item):
            yield from _walk(item, seen, notes, passed)


def _is_log(path: Path) -> bool:
    """:return: whether a file is a recording, by its name."""
    return is_bag(path) or is_ros1(path)


def _is_image(path: Path) -> bool:
    return (path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')
            and path.is_file() and not is_own_picture(path))


def _looks_like_data(path: Path) -> bool:
    """:return: whether a file is of a kind that is read, by its name."""
    return _is_log(path) or path.suffix.lower() in (*H5_SUFFIXES, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES)


def source_files(source: Source) -> list[Path]:
    """:return: the files that make up a source, in a fixed order."""
    path = source.path
    if path.is_file():
        return [path, *(item for item in (path.with_name(path.name + PENDING),) if item.exists())]
    if source.kind == 'lerobot':
        return lerobot_files(path)
    if source.kind == 'images':
        images = image_files(path)
        # Names that hold times need no list of them.
        count = any((named := place(image.name)) and named.clock == 'number' for image in images)
        return images + (timetables(path) if count else [])
    suffixes = tuple(suffix + end for suffix in STORAGE_SUFFIXES for end in ('', PENDING))
    return sorted(item for item in path.iterdir() if item.is_file()
                  and (item.name.lower().endswith(suffixes) or item.name == METADATA))


def image_files(folder: Path) -> list[Path]:
    """:return: pictures in a folder, by name."""
    return sorted(item for item in folder.iterdir() if _is_image(item))


def expected_frames(source: Source, topics: tuple[str, ...]) -> int | None:
    """:return: about how many frames a source has, where that is known without reading it."""
    if source.kind == 'images':
        return len(image_files(source.path))
    if source.kind == 'bag' and source.path.is_dir():
        return sum(count for topic, count in promised_images(source.path).items()
                   if not unwanted(topic, topics)) or None
    return None


def read_frames(source: Source, topics: tuple[str, ...], truth_topic: str | None,
                report: SourceReport, scratch: Path | None = None,
                sequences: str = 'auto') -> Iterator[RawFrame]:
    """
    Go through a source once; nothing is decoded here.

    :param source: of any kind but ``h5``.
    :param topics: globs of the image topics wanted; empty for all.
    :param truth_topic: topic of JSON strings with labels, for evaluation only.
    :param report: filled on the way.
    :param scratch: where compressed files are unpacked; ``None`` for the system's place.
    :param sequences: which images follow each other, see :func:`sequences.arrange`.
    """
    if source.kind == 'bag':
        yield from _bag_frames(source.path, topics, truth_topic, report, scratch)
    elif source.kind == 'lerobot':
        yield from lerobot_frames(source.path, topics, report)
    elif source.kind == 'video':
        yield from video_frames(source.path, report)
    else:
        yield from _picture_frames(source, topics, report, sequences)


def _picture_frames(source: Source, topics: tuple[str, ...], report: SourceReport,
                    sequences: str) -> Iterator[RawFrame]:
    folder = source.path.absolute().name
    pictures, unfit = tell_times(arrange(image_files(source.path), sequences), source.path)
    report.problems += unfit
    several = len({picture.sequence for picture in pictures}) > 1
    paged: list[Path] = []
    levels: dict[str, Levels] = {}
    for picture in pictures:
        file = picture.file
        topic, head = folder, _head(file)
        if several and picture.sequence:
            topic = f'{folder}/{picture.sequence}'
        # So are pictures of thermal and of grey cameras, in folders of other names.
        if (head.channels == 1 or head.indexed) and _is_depth(folder, topics):
            report.left_out[topic] = ('16-bit grey, depth' if head.is_deep else 'depth or mask') \
                + ' by the name of its folder; --topics takes it'
            report.left_count[topic] += 1
            continue
        if has_pages(file):
            paged.append(file)
        if picture.sequence:
            report.sequences[topic] = picture.sequence, picture.clock
        report.encodings.setdefault(topic, file.suffix.lower().lstrip('.'))
        load = partial(_image_file, file)
        if head.is_deep:
            known = levels.setdefault(str(source.path.parent / topic), Levels())
            yield decoded_in_order(topic, picture.stamp, partial(load, levels=known),
                                    picture.value)
        else:
            yield RawFrame(topic, picture.stamp, load, picture.value)
    if paged:
        report.problems.append(f'{len(paged)} image{"s" * (len(paged) > 1)} with several pages or '
                               f'frames, such as {paged[0]}: only the first is read')
    say_levels(levels, report)


def _is_depth(folder: str, topics: tuple[str, ...]) -> bool:
    """:return: whether grey or indexed pictures in a folder are taken for depth or masks."""
    wanted = bool(topics) and not unwanted(folder, topics)
    return not wanted and any(word in folder.lower() for word in DEPTH_WORDS)


def _head(file: Path) -> Head:
    """:return: what a file says of its picture; of one that cannot be read, nothing."""
    try:
        with file.open('rb') as stream:
            start = stream.read(HEAD_BYTES)
            # TIFF's tags may lie at the end.
            return read_head(memoryview(start + stream.read() if start[:2] in TIFF else start))
    except OSError:                                   # counted as a broken frame later
        return Head()


def _bag_frames(path: Path, topics: tuple[str, ...], truth_topic: str | None,
                report: SourceReport, scratch: Path | None) -> Iterator[RawFrame]:
    bag = BagReport(report.problems, report.topics)
    garbled = 0
    unstamped: Counter[str] = Counter()
    same: Counter[str] = Counter()
    lent: Counter[tuple[str, str]] = Counter()
    levels: dict[str, Levels] = {}                    # of the topics that need them
    twins = find_twins(path, topics, scratch)
    for message in read_bag(path, bag, scratch):
        topic = message.topic
        if message.kind == TEXT_TYPE:
            if topic == truth_topic:
                garbled += not _note_truth(message, report)
            continue
        if topic not in report.encodings and topic not in report.left_out:
            reason = unwanted(topic, topics) or _look(message, report, levels)
            if reason:
                report.left_out[topic] = reason
        if topic in report.left_out:
            report.left_count[topic] += 1
            continue
        stamp = message.own_stamp()
        if topic in twins.main:
            main = twins.main[topic]
            if stamp is not None and twins.has(topic, stamp, message.stamp):
                same[topic] += 1
                continue
            lent[topic, main] += stamp is not None
            topic = main
        unstamped[topic] += stamp == 0
        stamp, load = stamp or message.stamp, partial(_decode, message)
        if message.topic in levels:
            load = partial(load, levels=levels[message.topic])
            yield decoded_in_order(topic, stamp, load, message.stamp)
        else:
            yield RawFrame(topic, stamp, load, message.stamp, len(message.payload))
    say_levels(levels, report)
    if garbled:
        report.problems.append(f'{truth_topic}: {garbled} ground-truth messages are not readable '
                               'JSON')
    report.problems += [f'{count} frame{"s" * (count > 1)} of {topic} without a stamp of its own; '
                        'the time of recording is used'
                        for topic, count in unstamped.items() if count]
    report.problems += [f'{count} frame{"s" * (count > 1)} of {topic} where {main} has none'
                        for (topic, main), count in lent.items() if count]
    report.left_out |= {topic: f'the same pictures as {twins.main[topic]}' for topic in same}
    report.left_count += same
    report.left_count += bag.unknown
    report.lost = bag.lost


def _note_truth(message: BagMessage, report: SourceReport) -> bool:
    """:return: whether the message has labels."""
    try:
        labels = json.loads(message.decode().data)
        stamp = int(labels['stamp'])
    except (UserError, ValueError, TypeError, KeyError):
        return False
    report.truth[message.stamp] = report.truth[stamp] = labels
    return True


def _look(message: BagMessage, report: SourceReport, levels: dict[str, Levels]) -> str:
    """:return: why an image topic cannot be used by its first readable message, else nothing."""
    try:
        image = message.decode()
    except UserError:
        return ''                                     # counted as a broken frame later
    reason = depth_reason(image)
    if not reason:
        name = image.encoding if hasattr(image, 'encoding') else image.format
        report.encodings[message.topic] = printable(name.strip())
        if needs_levels(image):
            levels[message.topic] = Levels()
    return reason


def _decode(message: BagMessage, halvings: Halvings | None,
            levels: Levels | None = None) -> np.ndarray:
    try:
        return message_to_rgb(message.decode(), halvings, levels)
    except ImageError as error:
        raise UserError(f'{message.topic}: {error}') from error


def _image_file(file: Path, halvings: Halvings | None,
                levels: Levels | None = None) -> np.ndarray:
    if is_lfs_pointer(file):
        raise UserError(f'{file} is a Git LFS pointer, not an image; run `git lfs pull`')
    try:
        return compressed_to_rgb(file.read_bytes(), file.suffix, halvings, levels, file=True)
    except ImageError as error:
        raise UserError(f'{file}: {error}') from error
