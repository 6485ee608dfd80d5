"""
Messages of a ROS 1 bag (format 2.0), whatever state it is in.

With an intact index the chunks are read at the places it names, so that a broken one costs only
itself, and the index tells how many messages are missing. Without one, as a recorder leaves it
that was killed, the file is read in sequence up to where it breaks off.
http://wiki.ros.org/Bags/Format/2.0
"""
import bz2
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import lz4.frame

from imn_world_model.data.storage import StorageReport, StoredMessage, printable

# A record of more is taken for a broken length; a raw 8K frame has 100 MB.
MAX_RECORD_BYTES = 1 << 28
# Names and numbers only; the bag's own header is padded in its data.
MAX_HEADER_BYTES = 1 << 16
MAGIC = b'#ROSBAG V'
VERSION = b'2.0\n'
MESSAGE, BAG, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7


class BrokenBag(ValueError):
    """Bytes that are no record; the message says how."""


@dataclass(frozen=True)
class _Record:
    """
    A record of the file.

    :param kind: such as MESSAGE.
    :param fields: of its header.
    :param data: the rest; empty where ``cut`` or skipped.
    :param end: where the next one begins.
    """

    kind: int
    fields: dict[bytes, bytes]
    data: bytes | memoryview
    end: int

    def number(self, name: bytes, form: str = '<I') -> int:
        """:return: a field as a number."""
        try:
            return int(struct.unpack(form, self.fields[name])[0])
        except (KeyError, struct.error) as error:
            raise BrokenBag(f'a record has no {name.decode()}') from error


@dataclass
class _Index:
    """
    What the records behind the chunks tell.

    :param connections: number -> topic and type.
    :param chunks: where they begin.
    :param counts: connection -> messages recorded.
    """

    connections: dict[int, tuple[str, str]] = field(default_factory=dict)
    chunks: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)

    def note(self, record: _Record) -> None:
        """Take in a record of a connection or of a chunk."""
        if record.kind == CONNECTION:
            inner = _fields(bytes(record.data))
            topic = record.fields.get(b'topic') or inner[b'topic']
            self.connections[record.number(b'conn')] = (_text(topic), _text(inner[b'type']))
        elif record.kind == CHUNK_INFO:
            self.chunks.append(record.number(b'chunk_pos', '<Q'))
            for number, count in struct.iter_unpack('<II', record.data):
                self.counts[number] += count


def read_ros1(file: Path, name: Path, report: StorageReport) -> Iterator[StoredMessage]:
    """
    Go through a ``.bag`` file in the order it was written.

    :param file: what is read.
    :param name: what it is called in the report.
    :param report: gets what could not be read, and how many messages are known to be missing.
    """
    with file.open('rb') as stream:
        start = stream.read(len(MAGIC) + len(VERSION))
        if start != MAGIC + VERSION:
            version = start.removeprefix(MAGIC).decode(errors='replace').strip()
            what = (f'is a recording of ROS 1 of version {printable(version)}; `rosbag fix` '
                    'brings it to 2.0' if start.startswith(MAGIC) else 'is no recording of ROS 1')
            report.fault(f'{name} {what}')
            return
        index = _read_index(stream)
        whole = bool(index.chunks)
        records = (_indexed(stream, index, name, report) if whole
                   else _sequential(stream, index, name, report))
        read: Counter[int] = Counter()
        orphans = 0
        for record in records:
            try:
                number, time = record.number(b'conn'), record.number(b'time', '<Q')
                topic, kind = index.connections[number]
            except (BrokenBag, KeyError):
                orphans += 1
                continue
            read[number] += 1
            nanoseconds, seconds = divmod(time, 1 << 32)
            yield StoredMessage(topic, kind, 'ros1', seconds * 10 ** 9 + nanoseconds,
                                bytes(record.data))
    report.topics |= dict(index.connections.values())
    if orphans:
        report.fault(f'{name}: {orphans} messages belong to no known topic')
    missing = Counter(index.counts)
    missing.subtract(read)
    for number, count in missing.items():
        if count > 0 or whole and count:
            report.whole = False
            topic = index.connections[number][0] if number in index.connections else '?'
            report.lost[topic] = report.lost.get(topic, 0) + count


def ros1_topics(file: Path) -> set[str] | None:
    """:return: topics by the file's index; ``None`` without one."""
    with file.open('rb') as stream:
        index = _read_index(stream)
    return {topic for topic, _ in index.connections.values()} if index.chunks else None


def _read_index(stream: BinaryIO) -> _Index:
    """:return: the index at the file's end, an empty one where it is missing or broken."""
    index = _Index()
    size = stream.seek(0, os.SEEK_END)
    try:
        head = _read(stream, len(MAGIC) + len(VERSION), size)
        place = head.number(b'index_pos', '<Q') if head.kind == BAG else 0
        if not 0 < place < size:
            return index
        while place < size:
            record = _read(stream, place, size)
            index.note(record)
            place = record.end
        if len(index.chunks) == head.number(b'chunk_count'):
            index.chunks.sort()
            return index
    except (BrokenBag, struct.error, KeyError):
        pass
    return _Index()


def _indexed(stream: BinaryIO, index: _Index, name: Path,
             report: StorageReport) -> Iterator[_Record]:
    size = stream.seek(0, os.SEEK_END)
    broken = []
    for place in index.chunks:
        try:
            record = _read(stream, place, size)
            if record.kind != CHUNK:
                raise BrokenBag('no chunk where the index says')
            yield from _open_chunk(record, index, cut=False)
        except Exception as error:                    # the decompressors' are of many kinds
            broken.append(f'byte {place} ({_cause(error)})')
    _name_broken(broken, name, report)


def _sequential(stream: BinaryIO, index: _Index, name: Path,
                report: StorageReport) -> Iterator[_Record]:
    size = stream.seek(0, os.SEEK_END)
    place = len(MAGIC) + len(VERSION)
    broken: list[str] = []
    while place < size:
        try:
            record = _read(stream, place, size, cut=True)
        except BrokenBag:
            break
        try:
            if record.kind == CHUNK:
                yield from _open_chunk(record, index, cut=record.end > size)
            elif record.kind == INDEX:
                index.counts[record.number(b'conn')] += record.number(b'count')
            elif record.kind == CONNECTION:
                index.note(record)
            elif record.kind == MESSAGE and record.end <= size:
                yield record                          # of a chunk that was not closed
        except Exception as error:                    # the decompressors' are of many kinds
            if record.end <= size:
                broken.append(f'byte {place} ({_cause(error)})')
        if record.end > size:
            break
        place = record.end
    _name_broken(broken, name, report)
    report.fault(f'{name} is cut off or corrupt at byte {min(place, size)}; what lies before is '
                 'used, how much is lost is not known' if place < size else
                 f'{name} has no index, as when its recorder was killed; how much is lost is not '
                 'known')


def _read(stream: BinaryIO, place: int, size: int, cut: bool = False) -> _Record:
    """
    Read the record there.

    :param cut: whether its data may end with the file.
    :raises BrokenBag: where there is none.
    """
    stream.seek(place)
    fields = _fields(_block(stream, size - place, MAX_HEADER_BYTES))
    place = stream.tell()
    length = _length(stream)
    if length > MAX_RECORD_BYTES:
        raise BrokenBag(f'a record claims {length} bytes')
    data = stream.read(length)
    if len(data) < length and not cut:
        raise BrokenBag('cut off')
    return _Record(_kind(fields), fields, data, place + 4 + length)


def _open_chunk(chunk: _Record, index: _Index, cut: bool) -> Iterator[_Record]:
    """
    Unpack a chunk, as far as it goes; connections go into the index.

    :raises Exception: of many kinds, after the last message that could be read.
    """
    data = memoryview(_unpack(chunk, cut))
    place = 0
    while place + 8 <= len(data):
        head, = struct.unpack_from('<I', data, place)
        if head > MAX_HEADER_BYTES or place + 8 + head > len(data):
            raise BrokenBag('cut off' if cut else 'a record runs beyond its chunk')
        fields = _fields(bytes(data[place + 4:place + 4 + head]))
        place += 4 + head
        length, = struct.unpack_from('<I', data, place)
        end = place + 4 + length
        if end > len(data):
            raise BrokenBag('cut off' if cut else 'a record runs beyond its chunk')
        record = _Record(_kind(fields), fields, data[place + 4:end], end)
        if record.kind == CONNECTION:
            index.note(record)
        elif record.kind == MESSAGE:
            yield record
        place = end


def _unpack(chunk: _Record, cut: bool) -> bytes | memoryview:
    compression = _text(chunk.fields.get(b'compression', b''))
    size = chunk.number(b'size')
    if size > MAX_RECORD_BYTES:
        raise BrokenBag(f'a chunk claims {size} bytes')
    if compression == 'none':
        return chunk.data
    if compression not in ('bz2', 'lz4'):
        raise BrokenBag(f"compression '{compression}' is unknown")
    decompressor = (bz2.BZ2Decompressor() if compression == 'bz2'
                    else lz4.frame.LZ4FrameDecompressor())
    # More than the chunk claims would be as broken as less.
    data = decompressor.decompress(bytes(chunk.data), size + 1)
    if not cut and len(data) != size:
        raise BrokenBag(f'a chunk of {size} bytes has {len(data)}')
    return data


def _length(stream: BinaryIO) -> int:
    data = stream.read(4)
    if len(data) < 4:
        raise BrokenBag('cut off')
    return int(struct.unpack('<I', data)[0])


def _block(stream: BinaryIO, left: int, limit: int) -> bytes:
    length = _length(stream)
    if length > min(left, limit):
        raise BrokenBag(f'a header claims {length} bytes')
    data = stream.read(length)
    if len(data) < length:
        raise BrokenBag('cut off')
    return data


def _fields(header: bytes) -> dict[bytes, bytes]:
    """:return: name -> value of a record's header."""
    fields = {}
    place = 0
    while place < len(header):
        if place + 4 > len(header):
            raise BrokenBag('a header is broken')
        length, = struct.unpack_from('<I', header, place)
        name, equals, value = header[place + 4:place + 4 + length].partition(b'=')
        if not equals or place + 4 + length > len(header):
            raise BrokenBag('a header is broken')
        fields[name] = value
        place += 4 + length
    return fields


def _kind(fields: dict[bytes, bytes]) -> int:
    if len(fields.get(b'op', b'')) != 1:
        raise BrokenBag('a record has no kind')
    return fields[b'op'][0]


def _text(value: bytes) -> str:
    return printable(value.decode(errors='replace'))


def _name_broken(broken: list[str], name: Path, report: StorageReport) -> None:
    if broken:
        report.fault(f'{name}: {len(broken)} corrupt chunk{"s" if len(broken) > 1 else ""} or '
                     f'record{"s" if len(broken) > 1 else ""}, the first at {broken[0]}')


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, BrokenBag) else type(error).__name__
