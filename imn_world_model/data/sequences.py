"""
Which pictures of a folder follow each other in time, by their names.

``frame_000123.png`` has a number, ``1305031102.175304.png`` and ``20110510_123822.png`` a time.
Names that differ in nothing else are one sequence. Numbers far apart, as of pictures drawn at
random, are none.
"""
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np

from imn_world_model.base.errors import UserError

MODES = ('auto', 'folder', 'none')
# ``epoch``: since 1970; ``time``: since something else; ``number``: no time at all.
Clock = Literal['epoch', 'time', 'number']
EPOCH: Literal['epoch'] = 'epoch'
Group = tuple[str, Clock]

NUMBER = re.compile(r'\d+')
FRACTION = re.compile(r'(\d+)\.(\d{1,9})')
# Seconds since 1970 with a fraction, or with nanoseconds behind them.
SECONDS = re.compile(r'(?<!\d)(\d{10})(?:\.(\d{1,9})|[_-](\d{9}))(?!\d)')
# Year to second, perhaps with milli-, micro- or nanoseconds.
DATE = re.compile(r'(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]*(\d\d)[-_.h:]?(\d\d)[-_.m:]?'
                  r'(\d\d)(?:[-_.]?(\d{9}|\d{6}|\d{3}))?(?!\d)')
# Digits of a time since 1970 -> its unit in ns: seconds, milli-, micro- and nanoseconds.
UNITS = {10: 10 ** 9, 13: 10 ** 6, 16: 10 ** 3, 19: 1}
# 2001 to 2100, so that a long number is rarely taken for a time.
FIRST, LAST = 10 ** 18, 41 * 10 ** 17
# Numbers may be this many times as far apart as the closest could be.
SPARSE = 10
# What tells one camera of a rig from another in the names of folders and files.
CAMERA = re.compile(r'(?<![a-z])(?:left|right|front|rear|back|cent(?:er|re)'
                    r'|(?:cam(?:era)?|image)[_-]?\d+)(?![a-z0-9])', re.IGNORECASE)

NUMBERED_CAMERA = re.compile(r'(?<![a-z])cam(?:era)?[_-]?\d+', re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """
    What a name says.

    :param pattern: the name with ``#`` in place of what counts.
    :param clock: what counts.
    :param value: ns or a number.
    """

    pattern: str
    clock: Clock
    value: int


@dataclass(frozen=True)
class Picture:
    """
    A picture in its place.

    :param file: where it is.
    :param sequence: pattern of its sequence; empty for a picture on its own.
    :param clock: of the sequence.
    :param value: on that clock.
    """

    file: Path
    sequence: str = ''
    clock: Clock = 'number'
    value: int = 0

    @property
    def stamp(self) -> int:
        """:return: ns, 0 where unknown."""
        return 0 if self.clock == 'number' else self.value


def place(name: str) -> Place | None:
    """
    Read a file's name.

    :return: its time if it holds one, else its last number; ``None`` without any.
    """
    stem, _, suffix = name.rpartition('.')
    suffix = f'.{suffix.lower()}'
    found = SECONDS.search(stem)
    if found and FIRST <= (value := _nanoseconds(found[1], found[2] or found[3])) <= LAST:
        return Place(f'{stem[:found.start()]}#{stem[found.end():]}{suffix}', EPOCH, value)
    found = FRACTION.fullmatch(stem)
    if found:
        return Place(f'#{suffix}', 'time', max(1, _nanoseconds(found[1], found[2])))
    found = DATE.search(stem)
    if found and (value := date_to_ns(found)):
        return Place(f'{stem[:found.start()]}#{stem[found.end():]}{suffix}', EPOCH, value)
    numbers = list(NUMBER.finditer(stem))
    # A camera's number behind the picture's: frame_0001_cam0.png.
    cameras = [word.span() for word in NUMBERED_CAMERA.finditer(stem)]
    numbers = [found for found in numbers if not any(
        start <= found.start() < end for start, end in cameras)] or numbers
    for found in numbers:
        value = int(found[0]) * UNITS.get(len(found[0]), 0)
        if FIRST <= value <= LAST:
            return Place(f'{stem[:found.start()]}#{stem[found.end():]}{suffix}', EPOCH, value)
    if not numbers or len(numbers[-1][0]) > 18:
        return None
    found = numbers[-1]
    return Place(f'{stem[:found.start()]}#{stem[found.end():]}{suffix}', 'number', int(found[0]))


def date_to_ns(date: re.Match[str]) -> int:
    """:return: ns since 1970 of a date, taken for UTC; 0 where it is none."""
    try:
        year, month, day, hour, minute, second = map(int, date.groups()[:6])
        start = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return 0
    return _nanoseconds(str(int(start.timestamp())), date[7] or '0')


def _nanoseconds(seconds: str, fraction: str) -> int:
    return int(seconds) * 10 ** 9 + int(fraction.ljust(9, '0'))


def arrange(files: Iterable[Path], mode: str) -> list[Picture]:
    """
    Put the pictures of a folder in order.

    :param files: in any order.
    :param mode: ``auto`` takes those for a sequence whose names say so, ``folder`` all of them,
        ``none`` none.
    :return: sequence after sequence in order of time, then pictures on their own by name.
    :raises UserError: for an unknown mode.
    """
    if mode not in MODES:
        raise UserError(f"sequences is '{mode}'; known: {', '.join(MODES)}")
    files = sorted(files)
    if mode == 'none':
        return [Picture(file) for file in files]
    groups: defaultdict[Group, list[tuple[Path, int]]] = defaultdict(list)
    for file in files:
        where = place(file.name)
        if where:
            groups[where.pattern, where.clock].append((file, where.value))
    if mode == 'folder':
        timed = [(file, value) for (_, clock), members in groups.items() if clock == EPOCH
                 for file, value in members]
        if len(timed) == len(files):
            return _ordered('*', EPOCH, timed)
        return [Picture(file, '*', 'number', number)
                for number, file in enumerate(sorted(files, key=lambda file: _natural(file.name)))]
    arranged: list[Picture] = []
    for (pattern, clock), members in sorted(_regroup(groups).items()):
        if len(members) > 1 and (clock != 'number' or _is_dense([value for _, value in members])):
            arranged += _ordered(pattern, clock, members)
    taken = {picture.file for picture in arranged}
    return arranged + [Picture(file) for file in files if file not in taken]


def _regroup(groups: dict[Group, list[tuple[Path, int]]]) -> dict[Group, list[tuple[Path, int]]]:
    """
    Put pictures together that are each alone because a second number of their names varies.

    :return: groups; of ``frame_0001_640x480.png`` by the one number that varies, of
        ``0001_1305031102.5.png`` by the time.
    """
    result = {group: members for group, members in groups.items() if len(members) > 1}
    alone: defaultdict[Group, list[tuple[Path, int, list[int]]]] = defaultdict(list)
    for (pattern, clock), members in groups.items():
        if len(members) == 1:
            (file, value), = members
            rest = [int(number) for number in NUMBER.findall(pattern.rpartition('.')[0])]
            alone[NUMBER.sub('#', pattern), clock].append((file, value, rest))
    for (pattern, clock), found in alone.items():
        columns = list(zip(*(rest for _, _, rest in found), strict=True))
        vary = [column for column in columns if len(set(column)) > 1]
        same = len({value for _, value, _ in found}) == 1
        if clock != 'number':                         # the other numbers only count as well
            members = [(file, value) for file, value, _ in found]
        elif same and len(vary) == 1 and max(vary[0]) < 10 ** 18:
            members = [(file, number) for (file, *_), number in zip(found, vary[0], strict=True)]
        else:
            continue
        result.setdefault((pattern, clock), []).extend(members)
    return result


def _ordered(pattern: str, clock: Clock, members: list[tuple[Path, int]]) -> list[Picture]:
    return [Picture(file, pattern, clock, value)
            for file, value in sorted(members, key=lambda member: (member[1], member[0]))]


def _natural(name: str) -> list[tuple[int, str]]:
    """:return: a key by which 2 comes before 10."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', name) if part]


def _is_dense(values: list[int]) -> bool:
    """:return: whether numbers are those of a sequence from which some may be missing."""
    steps = np.diff(np.unique(np.asarray(values, np.int64)))
    if not len(steps):
        return False
    unit = int(np.gcd.reduce(steps)) if len(steps) > 1 else 1
    return bool(np.median(steps) <= SPARSE * unit)


def rig(folder: Path, pattern: str) -> str:
    """
    What the cameras of a rig have in common.

    :param folder: of the pictures.
    :param pattern: of their sequence.
    :return: both, but for what tells one camera from another: the same for
        ``image_02/data/#.png`` and ``image_03/data/#.png``, or for ``left_#`` and ``right_#``.
    """
    parts = (*folder.absolute().parts, pattern.rpartition('.')[0] or pattern)
    return '/'.join(CAMERA.sub('*', part) for part in parts)
