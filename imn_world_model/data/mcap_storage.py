"""
Messages of an MCAP file, whatever state it is in.

With an intact index the chunks are read at the places it names, so that a broken one costs only
itself, and the file's own statistics tell how many messages are missing. Without one the file is
read in sequence up to where it breaks off, and the small index behind each chunk tells how many
of its messages are missing.
"""
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Message, MessageIndex, Schema
from mcap.summary import Summary

from imn_world_model.data.storage import StorageReport, StoredMessage, printable

# A record of more is taken for a broken length; a raw 8K frame has 100 MB.
MAX_RECORD_BYTES = 1 << 28
MAGIC = b'\x89MCAP0\r\n'
# As the format lays them out: kind and length of every record; time span, size and checksum of a
# chunk; channel, sequence and two times of a message.
RECORD_HEAD = struct.Struct('<BQ')
CHUNK_HEAD = struct.Struct('<QQQII')
MESSAGE_HEAD = struct.Struct('<HIQQ')
# Kinds from here on are private extensions, to be skipped.
FIRST_PRIVATE = 0x80

Record = Message | Channel | Schema


def read_mcap(file: Path, name: Path, report: StorageReport) -> Iterator[StoredMessage]:
    """
    Go through an MCAP file in the order it was written.

    :param file: what is read.
    :param name: what it is called in the report.
    :param report: gets what could not be read, and how many messages are known to be missing.
    """
    with file.open('rb') as stream:
        summary = _summary(stream)
        schemas: dict[int, Schema] = dict(summary.schemas) if summary else {}
        channels: dict[int, Channel] = dict(summary.channels) if summary else {}
        missing: Counter[int] = Counter()
        records = (_indexed(stream, summary, name, report) if summary and summary.chunk_indexes
                   else _sequential(stream, name, report, missing))
        read: Counter[int] = Counter()
        orphans = 0
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            else:
                channel = channels.get(record.channel_id)
                schema = schemas.get(channel.schema_id) if channel else None
                if channel is None or schema is None:
                    orphans += 1
                    continue
                read[record.channel_id] += 1
                yield StoredMessage(printable(channel.topic), printable(schema.name),
                                    printable(channel.message_encoding), record.log_time,
                                    record.data, schema.data)
    report.topics |= {printable(channel.topic): printable(schemas[channel.schema_id].name)
                      for channel in channels.values() if channel.schema_id in schemas}
    if orphans:
        report.fault(f'{name}: {orphans} messages belong to no known topic')
    if summary and summary.statistics:
        missing = Counter(summary.statistics.channel_message_counts)
        missing.subtract(read)
    elif orphans:
        missing[-1] = orphans
    for number, count in missing.items():
        if count:
            report.whole = False
            topic = printable(channels[number].topic) if number in channels else '?'
            report.lost[topic] = report.lost.get(topic, 0) + count


def mcap_topics(file: Path) -> set[str] | None:
    """:return: topics by the file's index; ``None`` without one."""
    with file.open('rb') as stream:
        summary = _summary(stream)
    if summary is None:
        return None
    return {printable(channel.topic) for channel in summary.channels.values()}


def _summary(stream: BinaryIO) -> Summary | None:
    """:return: the index at the file's end, ``None`` where it is missing or contradictory."""
    try:
        summary = SeekingReader(stream, record_size_limit=MAX_RECORD_BYTES).get_summary()
    except Exception:                                 # whatever a broken byte makes of it
        return None
    if summary is None or summary.statistics is None:
        return None
    counts = summary.statistics.channel_message_counts
    consistent = (summary.statistics.chunk_count == len(summary.chunk_indexes)
                  and summary.statistics.message_count == sum(counts.values())
                  and set(counts) <= set(summary.channels))
    return summary if consistent else None


def _indexed(stream: BinaryIO, summary: Summary, name: Path,
             report: StorageReport) -> Iterator[Record]:
    size = stream.seek(0, os.SEEK_END)
    broken = []
    for start in sorted({index.chunk_start_offset for index in summary.chunk_indexes}):
        try:
            opcode, length = _head(stream, start, size)
            if opcode != Opcode.CHUNK or start + RECORD_HEAD.size + length > size:
                raise McapError('no chunk where the index says')
            yield from _open_chunk(_body(stream, length))
        except Exception as error:                    # the decompressors' are of many kinds
            broken.append(f'byte {start} ({_cause(error)})')
    _name_broken(broken, name, report)


def _sequential(stream: BinaryIO, name: Path, report: StorageReport,
                missing: Counter[int]) -> Iterator[Record]:
    """:param missing: gets channel -> messages in chunks by their own index, less those read."""
    size = stream.seek(0, os.SEEK_END)
    place = len(MAGIC)
    opcode, _ = _head(stream, place, size)
    stream.seek(0)
    if stream.read(place) != MAGIC and opcode != Opcode.HEADER:
        report.fault(f'{name} is no MCAP file')
        return
    broken: list[str] = []
    chunk: _Chunk | None = None                       # the last one, until its index is read
    known = True
    while True:
        opcode, length = _head(stream, place, size)
        end = place + RECORD_HEAD.size + length
        if chunk and opcode != Opcode.MESSAGE_INDEX:
            if chunk.index.total() >= chunk.read.total():
                missing.update(chunk.index)
                missing.subtract(chunk.read)
            known &= chunk.whole or chunk.index.total() >= max(1, chunk.read.total())
            chunk = None
        if opcode in (Opcode.DATA_END, Opcode.FOOTER):
            break
        try:
            if opcode == Opcode.CHUNK:
                chunk = _Chunk()
                for record in _open_chunk(_body(stream, min(length, size - place))):
                    if isinstance(record, Message):
                        chunk.read[record.channel_id] += 1
                    yield record
                chunk.whole = True
            elif end <= size and opcode == Opcode.MESSAGE_INDEX and chunk:
                index = MessageIndex.read(_stream(_body(stream, length)))
                chunk.index[index.channel_id] += len(index.records)
            elif end <= size and opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                yield _record(opcode, _body(stream, length))
        except Exception as error:                    # the decompressors' are of many kinds
            if end <= size:
                broken.append(f'byte {place} ({_cause(error)})')
                known &= opcode == Opcode.CHUNK
        if end > size or opcode == 0 or Opcode.DATA_END < opcode < FIRST_PRIVATE:
            report.fault(f'{name} is cut off or corrupt at byte {min(place, size)}; what lies '
                         'before is used, how much is lost is not known')
            known = True                              # said already
            break
        place = end
    _name_broken(broken, name, report)
    if not known:
        report.fault(f'{name}: how much is lost in corrupt chunks is not known')


@dataclass
class _Chunk:
    """What was read of a chunk, and what the index behind it says of it: channel -> messages."""

    read: Counter[int] = field(default_factory=Counter)
    index: Counter[int] = field(default_factory=Counter)
    whole: bool = False


def _head(stream: BinaryIO, place: int, size: int) -> tuple[int, int]:
    """:return: kind and length of the record there; kind 0 where the file ends."""
    stream.seek(place)
    head = stream.read(RECORD_HEAD.size) if place <= size else b''
    return RECORD_HEAD.unpack(head) if len(head) == RECORD_HEAD.size else (0, 0)


def _body(stream: BinaryIO, length: int) -> bytes:
    if length > MAX_RECORD_BYTES:
        raise McapError(f'record claims {length} bytes')
    return stream.read(length)


def _open_chunk(body: bytes) -> Iterator[Record]:
    """
    Unpack a chunk, as far as it goes.

    :raises Exception: of many kinds, after the last record that could be read.
    """
    *_, size, checksum, name_length = CHUNK_HEAD.unpack_from(body)
    name_end = CHUNK_HEAD.size + name_length
    compression = body[CHUNK_HEAD.size:name_end].decode()
    length, = struct.unpack_from('<Q', body, name_end)
    packed = memoryview(body)[name_end + 8:][:length]
    cut = len(packed) < length
    data = _unpack(packed, compression, size, cut)
    if not cut and checksum and zlib.crc32(data) != checksum:
        raise McapError('checksum does not match')
    place = 0
    while place + RECORD_HEAD.size <= len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, place)
        place += RECORD_HEAD.size
        if place + length > len(data):
            raise McapError('cut off' if cut else 'a record runs beyond its chunk')
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
            yield _record(opcode, data[place:place + length])
        place += length
    if cut:
        raise McapError('cut off')


def _unpack(packed: memoryview, compression: str, size: int, cut: bool) -> bytes | memoryview:
    if compression == '':
        return packed
    if compression == 'zstd':
        # The decompressor trusts the size in the data itself and would allocate it.
        size = max(size, zstandard.frame_content_size(packed))
    if size > MAX_RECORD_BYTES:
        raise McapError(f'chunk claims {size} bytes')
    if compression == 'lz4':
        decompressor = lz4.frame.LZ4FrameDecompressor()
        data = decompressor.decompress(packed, MAX_RECORD_BYTES)
        if not (cut or decompressor.eof):
            raise McapError('cut off')
        return data
    if compression != 'zstd':
        raise McapError(f"compression '{compression}' is unknown")
    if not cut:
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    unpacked = io.BytesIO()
    with zstandard.ZstdDecompressor().stream_writer(unpacked, closefd=False) as writer:
        writer.write(packed)
    return unpacked.getvalue()


def _record(opcode: int, body: bytes | memoryview) -> Record:
    """:raises Exception: of many kinds when the bytes are no record of that kind."""
    if opcode == Opcode.MESSAGE:
        channel, sequence, log_time, publish_time = MESSAGE_HEAD.unpack_from(body)
        return Message(channel, log_time, bytes(body[MESSAGE_HEAD.size:]), publish_time, sequence)
    return (Schema if opcode == Opcode.SCHEMA else Channel).read(_stream(body))


def _stream(body: bytes | memoryview) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(body))


def _name_broken(broken: list[str], name: Path, report: StorageReport) -> None:
    if broken:
        report.fault(f'{name}: {len(broken)} corrupt chunk{"s" if len(broken) > 1 else ""} or '
                     f'record{"s" if len(broken) > 1 else ""}, the first at {broken[0]}')


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, McapError) and str(error) else type(error).__name__
