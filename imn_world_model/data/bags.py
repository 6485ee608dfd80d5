"""
Messages out of rosbag2 recordings, storage file by storage file.

The storage files say what they hold; ``metadata.yaml`` only orders them and may be missing or
wrong. MCAP files are read in sequence, chunk by chunk, so that one without an index or cut off
in the middle still gives all that lies before the cut.
"""
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml
import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from imn_world_model.errors import UserError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage',
               'foxglove_msgs/msg/CompressedImage')
TEXT_TYPE = 'std_msgs/msg/String'
STORAGE_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
LFS_MAGIC = b'version https://git-lfs'
MAX_RECORD_BYTES = 1 << 30

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
TYPESTORE.register(get_types_from_msg(
    'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    'foxglove_msgs/msg/CompressedImage'))


@dataclass(frozen=True)
class BagMessage:
    """
    A message as recorded.

    :param topic: its topic.
    :param kind: its type, such as ``sensor_msgs/msg/Image``.
    :param stamp: time of recording, ns.
    :param payload: CDR bytes.
    """

    topic: str
    kind: str
    stamp: int
    payload: bytes

    def decode(self) -> Any:
        """
        Deserialize.

        :raises UserError: when the bytes are no message of that type.
        """
        payload = self.payload
        try:
            if payload[:4] == ZSTD_MAGIC:             # rosbag2's per-message compression
                payload = zstandard.ZstdDecompressor().decompress(
                    payload, max_output_size=MAX_RECORD_BYTES)
            return TYPESTORE.deserialize_cdr(payload, self.kind)
        except Exception as error:                    # rosbags lets any struct or index error out
            raise UserError(f'message of {self.kind} is broken '
                            f'({type(error).__name__})') from error


@dataclass
class BagReport:
    """
    What could not be read, one line each.

    :param problems: lines for the user.
    :param topics: every topic seen, with its type.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)


def storage_files(path: Path) -> list[Path]:
    """
    The storage files of a recording, in order of time.

    :param path: a bag folder or a single storage file.
    :return: files; empty when the folder holds none.
    """
    if path.is_file():
        return [path]
    files = sorted(item for item in path.iterdir() if item.name.endswith(STORAGE_SUFFIXES))
    try:
        information = yaml.safe_load((path / 'metadata.yaml').read_text())
        order = [Path(name).name for name in
                 information['rosbag2_bagfile_information']['relative_file_paths']]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        order = []
    return sorted(files, key=lambda item: (order.index(item.name) if item.name in order
                                           else len(order), item.name))


def is_bag(path: Path) -> bool:
    """:return: whether a path is a storage file or a folder of storage files."""
    if path.is_dir():
        return any(item.name.endswith(STORAGE_SUFFIXES) for item in path.iterdir())
    return path.name.endswith(STORAGE_SUFFIXES)


def read_bag(path: Path, report: BagReport) -> Iterator[BagMessage]:
    """
    Go through a recording once, in the order it was written.

    :param path: a bag folder or a storage file.
    :param report: filled with topics and problems on the way.
    :return: messages of image and string types; others are only listed in the report.
    """
    for file in storage_files(path):
        with file.open('rb') as stream:
            head = stream.read(len(LFS_MAGIC))
        if head == LFS_MAGIC:
            report.problems.append(f'{file} is a Git LFS pointer, not a recording; '
                                   'run `git lfs pull`')
            continue
        if file.name.endswith('.zstd'):
            with tempfile.TemporaryDirectory() as scratch:
                plain = Path(scratch) / file.name.removesuffix('.zstd')
                try:
                    with file.open('rb') as packed, plain.open('wb') as unpacked:
                        zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
                except zstandard.ZstdError:
                    report.problems.append(f'{file}: compressed file is cut off or corrupt; '
                                           'read up to there')
                yield from _read_storage(plain, file, report)
        else:
            yield from _read_storage(file, file, report)


def _read_storage(file: Path, name: Path, report: BagReport) -> Iterator[BagMessage]:
    reader = _read_mcap if file.name.endswith('.mcap') else _read_sqlite
    for message in reader(file, name, report):
        kind = _full_type(message.kind)
        report.topics[message.topic] = kind
        if kind in (*IMAGE_TYPES, TEXT_TYPE):
            yield BagMessage(message.topic, kind, message.stamp, message.payload)


def _full_type(kind: str) -> str:
    """:return: ``package/msg/Type`` for names with or without ``/msg/``, foxglove's included."""
    package, _, name = kind.rpartition('/')
    package = package.split('/')[0].split('.')[0]
    if kind.startswith('foxglove'):
        package, name = 'foxglove_msgs', kind.replace('.', '/').rpartition('/')[2]
    return f'{package}/msg/{name}'


def _read_mcap(file: Path, name: Path, report: BagReport) -> Iterator[BagMessage]:
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with file.open('rb') as stream:
        for record in _mcap_records(stream, name, report):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
                if record.schema_id in schemas:
                    report.topics[record.topic] = _full_type(schemas[record.schema_id].name)
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                schema = schemas.get(channel.schema_id) if channel else None
                if channel is None or schema is None:
                    report.problems.append(f'{name}: a message belongs to no known topic')
                    continue
                yield BagMessage(channel.topic, schema.name, record.log_time, record.data)


def _mcap_records(stream: BinaryIO, name: Path, report: BagReport) -> Iterator[McapRecord]:
    """:return: records with chunks opened; a broken chunk or end is reported and passed over."""
    records = StreamReader(stream, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES).records
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except Exception as error:                    # whatever a broken byte makes of it
            what = 'is cut off or corrupt' if stream.tell() > 8 else 'is no MCAP file'
            cause = str(error) if isinstance(error, McapError) else type(error).__name__
            report.problems.append(f'{name} {what} at byte {stream.tell()} ({cause}); '
                                   'what lies before is used')
            return
        if not isinstance(record, Chunk):
            yield record
            continue
        try:
            yield from breakup_chunk(record, validate_crc=True)
        except Exception as error:
            report.problems.append(f'{name}: a chunk of {len(record.data)} bytes is corrupt '
                                   f'({type(error).__name__}) and left out')


def _read_sqlite(file: Path, name: Path, report: BagReport) -> Iterator[BagMessage]:
    try:
        with Reader(file) as reader:
            for connection, stamp, payload in reader.messages(reader.connections):
                yield BagMessage(connection.topic, connection.msgtype, stamp, payload)
    except GeneratorExit:
        raise
    except ReaderError as error:
        report.problems.append(f'{name} cannot be read: {error}')
    except Exception as error:
        report.problems.append(f'{name} is cut off or corrupt ({type(error).__name__}: {error}); '
                               'what lies before is used')
