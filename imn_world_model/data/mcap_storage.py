"""
Messages of an MCAP file, whatever state it is in.

With an intact index the chunks are read at the places it names, so that a broken one costs only
itself, and the file's own statistics tell how many messages are missing. Without one the file is
read in sequence up to where it breaks off.
"""
import io
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.summary import Summary

from imn_world_model.data.storage import StorageReport, StoredMessage

# A record of more is taken for a broken length; a raw 8K frame has 100 MB.
MAX_RECORD_BYTES = 1 << 28
# Every record begins with its kind and its length.
RECORD_HEAD = struct.Struct('<BQ')


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
        records = (_indexed(stream, summary, name, report)
                   if summary and summary.chunk_indexes else _sequential(stream, name, report))
        read: Counter[int] = Counter()
        orphans = 0
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                schema = schemas.get(channel.schema_id) if channel else None
                if channel is None or schema is None:
                    orphans += 1
                    continue
                read[record.channel_id] += 1
                yield StoredMessage(channel.topic, schema.name, channel.message_encoding,
                                    record.log_time, record.data)
    report.topics |= {channel.topic: schemas[channel.schema_id].name
                      for channel in channels.values() if channel.schema_id in schemas}
    if orphans:
        report.problems.append(f'{name}: {orphans} messages belong to no known topic')
        if summary is None:
            report.lost['?'] = orphans
    if summary and summary.statistics:
        for number, count in summary.statistics.channel_message_counts.items():
            topic = channels[number].topic if number in channels else '?'
            if count > read[number]:
                report.lost[topic] = report.lost.get(topic, 0) + count - read[number]


def _summary(stream: BinaryIO) -> Summary | None:
    """:return: the index at the file's end, ``None`` where it is missing or contradictory."""
    try:
        summary = SeekingReader(stream, record_size_limit=MAX_RECORD_BYTES).get_summary()
    except Exception:                                 # whatever a broken byte makes of it
        summary = None
    stream.seek(0)
    if summary is None or summary.statistics is None:
        return None
    if summary.statistics.chunk_count != len(summary.chunk_indexes):
        return None
    return summary


def _indexed(stream: BinaryIO, summary: Summary, name: Path,
             report: StorageReport) -> Iterator[McapRecord]:
    broken = []
    for start in sorted(index.chunk_start_offset for index in summary.chunk_indexes):
        try:
            stream.seek(start)
            chunk = next(StreamReader(stream, skip_magic=True, emit_chunks=True,
                                      record_size_limit=MAX_RECORD_BYTES).records)
            if not isinstance(chunk, Chunk):
                raise McapError('no chunk where the index says')
            records = _open_chunk(chunk)
        except Exception as error:
            broken.append(f'byte {start} ({_cause(error)})')
            continue
        yield from records
    if broken:
        report.problems.append(f'{name}: {len(broken)} corrupt chunks left out, the first at '
                               f'{broken[0]}')


def _sequential(stream: BinaryIO, name: Path, report: StorageReport) -> Iterator[McapRecord]:
    records = StreamReader(stream, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES).records
    broken = []
    while True:
        start = stream.tell()
        try:
            record = next(records, None)
        except Exception as error:
            yield from _cut_chunk(stream, start)
            what = 'is cut off or corrupt' if stream.tell() > 8 else 'is no MCAP file'
            report.problems.append(f'{name} {what} at byte {stream.tell()} ({_cause(error)}); '
                                   'what lies before is used, how much is lost is not known')
            break
        if record is None:
            break
        if not isinstance(record, Chunk):
            yield record
            continue
        try:
            opened = _open_chunk(record)
        except Exception as error:
            broken.append(f'byte {stream.tell()} ({_cause(error)})')
            continue
        yield from opened
    if broken:
        report.problems.append(f'{name}: {len(broken)} corrupt chunks left out, the first before '
                               f'{broken[0]}')


def _cut_chunk(stream: BinaryIO, start: int) -> list[McapRecord]:
    """:return: the whole records of the chunk in which the file breaks off, if it is one."""
    try:
        if stream.seek(0, os.SEEK_END) - start > MAX_RECORD_BYTES:
            return []
        stream.seek(start)
        if stream.read(RECORD_HEAD.size)[:1] != bytes((Opcode.CHUNK,)):
            return []
        chunk = Chunk.read(ReadDataStream(stream))
        data = chunk.data
        if chunk.compression == 'zstd':
            unpacked = io.BytesIO()
            with zstandard.ZstdDecompressor().stream_writer(unpacked, closefd=False) as writer:
                writer.write(data)
            data = unpacked.getvalue()
        elif chunk.compression == 'lz4':
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, MAX_RECORD_BYTES)
        whole = 0
        while whole + RECORD_HEAD.size <= len(data):
            _, length = RECORD_HEAD.unpack_from(data, whole)
            if whole + RECORD_HEAD.size + length > len(data):
                break
            whole += RECORD_HEAD.size + length
        return breakup_chunk(replace(chunk, compression='', data=data[:whole]))
    except Exception:                                 # its loss is reported by the caller
        return []


def _open_chunk(chunk: Chunk) -> list[McapRecord]:
    """:raises Exception: of many kinds when the chunk is corrupt."""
    size = chunk.uncompressed_size
    if chunk.compression == 'zstd':
        # The decompressor trusts the size in the data itself and would allocate it.
        size = max(size, zstandard.frame_content_size(chunk.data))
    if size > MAX_RECORD_BYTES:
        raise McapError(f'chunk claims {size} bytes')
    return breakup_chunk(chunk, validate_crc=True)


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, McapError) and str(error) else type(error).__name__
