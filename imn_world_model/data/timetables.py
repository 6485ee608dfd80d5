"""
When pictures were taken whose names only count, by a list beside them.

KITTI has ``image_02/timestamps.txt`` beside ``image_02/data/0000000000.png``, and ``times.txt``
beside ``image_0/000000.png``: a line for each number. Others name the picture in its line, as
TUM's ``rgb.txt`` and EuRoC's ``data.csv`` do, whose names hold the times themselves; or its
number.
"""
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from imn_world_model.data.sequences import (
    DATE,
    EPOCH,
    FIRST,
    LAST,
    UNITS,
    Clock,
    Picture,
    date_to_ns,
)

SUFFIXES = '.txt', '.csv'
NAMES = ('timestamps.txt', 'times.txt', 'timestamps.csv', 'times.csv', 'data.csv')
# More lines than a day of pictures has are no list of times.
MAX_BYTES = 1 << 28
# Of a picture's name, as against a number.
SUFFIX = re.compile(r'\.[A-Za-z]+$')
SECONDS = re.compile(r'[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?')


def timetables(folder: Path) -> list[Path]:
    """:return: lists of times that may be of a folder's pictures: in it, and beside it."""
    folder = folder.absolute()
    names = [*NAMES, *(folder.name + suffix for suffix in SUFFIXES)]
    return [place / name for place in (folder, folder.parent) for name in names
            if (place / name).is_file()]


def may_be_timetable(file: Path) -> bool:
    """:return: whether a file is a list of times, by its name, if there are pictures to it."""
    if file.suffix not in SUFFIXES:
        return False
    folder = file.absolute().parent
    return file.name in NAMES or file.stem == folder.name or (folder / file.stem).is_dir()


def tell_times(pictures: list[Picture], folder: Path) -> tuple[list[Picture], list[str]]:
    """
    Give pictures of numbered sequences the times that a list holds for them.

    :param pictures: of the folder, sequence after sequence in order.
    :return: the same, a sequence with times where a list has one for each of its pictures; and a
        line for each list that fits none.
    """
    sequences: dict[str, list[Picture]] = {}
    for picture in pictures:
        if picture.sequence and picture.clock == 'number':
            sequences.setdefault(picture.sequence, []).append(picture)
    timed: dict[Path, Picture] = {}
    unfit: list[str] = []
    for file in timetables(folder) if sequences else ():
        listed = _read(file)
        fitting = {name: times for name, members in sequences.items()
                   if listed and (times := _fit(members, *listed))}
        for name, times in fitting.items():
            clock: Clock = EPOCH if times[0] >= FIRST and times[-1] <= LAST else 'time'
            for picture, time in zip(sequences.pop(name), times, strict=True):
                timed[picture.file] = replace(picture, clock=clock, value=max(1, time))
        if not fitting:
            unfit.append(f'{file} is not used: it has no time for each image')
        if not sequences:
            break
    return [timed.get(picture.file, picture) for picture in pictures], unfit


def _fit(pictures: list[Picture], times: list[int], names: list[str]) -> list[int]:
    """
    Find the time of each picture.

    :param names: of the pictures in the lines, or their numbers; empty where lines only follow
        each other.
    :return: ns of each; empty where one has none, or where time would go back.
    """
    if names:
        of_name = dict(zip(names, times, strict=True))
        found = [of_name.get(picture.file.name, of_name.get(str(picture.value)))
                 for picture in pictures]
    else:
        last = max(picture.value for picture in pictures)
        first = 1 if last == len(times) else 0        # counted from 1
        found = [times[picture.value - first] if first <= picture.value < first + len(times)
                 else None for picture in pictures]
    known = [time for time in found if time is not None]
    forward = known == sorted(known) and len(set(known)) > 1
    return known if forward and len(known) == len(found) else []


def _read(file: Path) -> tuple[list[int], list[str]] | None:
    """:return: ns of each line, and its picture's name or number; ``None`` for no such list."""
    times: list[int] = []
    names: list[str] = []
    if file.stat().st_size > MAX_BYTES:
        return None
    for number, words in enumerate(_lines(file)):
        named = next((k for k, word in enumerate(words) if SUFFIX.search(word)), None)
        if named is None and len(words) > 1 and words[0].isdigit():
            time = _nanoseconds(words[1])             # ``number time``
            names.append(str(int(words[0])))
        elif named is None:
            time = _nanoseconds(' '.join(words))
        else:                                         # ``time name``, ``number time name``
            time = _nanoseconds(words[named - 1]) if named else None
            names.append(Path(words[named]).name)
        if time is not None:
            times.append(time)
        elif number:                                  # the first may be a heading
            return None
        else:
            names.clear()
    return (times, names) if times and len(names) in (0, len(times)) else None


def _lines(file: Path) -> Iterator[list[str]]:
    """:return: words of each line, but for comments."""
    try:
        text = file.read_text(errors='replace')
    except OSError:                                   # as good as not there
        return
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith('#'):
            yield re.split(r'\s*[,;]\s*|\s+', line)


def _nanoseconds(text: str) -> int | None:
    """:return: of a date, of a time since 1970 in whatever unit, or of seconds since the start."""
    date = DATE.fullmatch(text)
    if date:
        return date_to_ns(date) or None
    if not SECONDS.fullmatch(text):
        return None
    if text.isdigit():                                # of no known unit, or a count
        value = int(text) * UNITS.get(len(text), 0)
        return value if FIRST <= value <= LAST or text == '0' else None
    whole, _, fraction = text.partition('.')
    if whole.isdigit() and fraction.isdigit():        # to the nanosecond, which a float has not
        return int(whole) * 10 ** 9 + int(fraction[:9].ljust(9, '0'))
    value = round(float(text) * 1e9)
    return value if value >= 0 else None
