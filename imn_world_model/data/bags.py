"""
Messages out of rosbag2 recordings, storage file by storage file, and out of ROS 1's bags.

The storage files say what they hold; ``metadata.yaml`` only orders them and may be missing or
wrong. MCAP files are read in sequence, chunk by chunk, so that one without an index or cut off
in the middle still gives all that lies before the cut.
"""
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
import zstandard
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from imn_world_model.base.errors import UserError
from imn_world_model.data.foxglove import (
    FOXGLOVE_ENCODINGS,
    FOXGLOVE_FIELDS,
    FOXGLOVE_TYPES,
    decode_foxglove,
)
from imn_world_model.data.mcap_storage import MAX_RECORD_BYTES, mcap_topics, read_mcap
from imn_world_model.data.ros1_storage import read_ros1, ros1_topics
from imn_world_model.data.sqlite_storage import read_sqlite, sqlite_topics
from imn_world_model.data.storage import StorageReport

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', *FOXGLOVE_TYPES)
TEXT_TYPE = 'std_msgs/msg/String'
READ_TYPES = (*IMAGE_TYPES, TEXT_TYPE)
PACKED_SUFFIXES = ('.zstd', '.zst')
STORAGE_SUFFIXES = ('.mcap', '.db3', *(f'{storage}{packed}' for storage in ('.mcap', '.db3')
                                       for packed in PACKED_SUFFIXES))
ROS1_SUFFIXES = ('.bag', '.bag.active')
METADATA = 'metadata.yaml'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
LFS_MAGIC = b'version https://git-lfs'

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
ROS1_TYPESTORE = get_typestore(Stores.ROS1_NOETIC)
for _kind, _fields in FOXGLOVE_FIELDS.items():
    TYPESTORE.register(get_types_from_msg(_fields, _kind))
# Encoding of a message -> types that are known in it.
KNOWN_TYPES = {'cdr': TYPESTORE.types, 'ros1': ROS1_TYPESTORE.types}


@dataclass(frozen=True)
class BagMessage:
    """
    A message as recorded.

    :param topic: its topic.
    :param kind: its type, such as ``sensor_msgs/msg/Image``.
    :param stamp: time of recording, ns.
    :param payload: CDR bytes, perhaps compressed; of foxglove's types also protobuf or JSON.
    :param encoding: ``cdr``, ``ros1``, ``protobuf`` or ``json``.
    :param schema: definition of the type, for protobuf.
    """

    topic: str
    kind: str
    stamp: int
    payload: bytes
    encoding: str = 'cdr'
    schema: bytes = b''

    def own_stamp(self) -> int | None:
        """:return: ns, the time in the image message itself; ``None`` where it is broken."""
        if self.encoding == 'ros1':                   # a header begins with its number
            if len(self.payload) < 12:
                return None
            seconds, nanoseconds = struct.unpack_from('<II', self.payload, 4)
            return seconds * 10 ** 9 + nanoseconds
        if self.encoding != 'cdr':
            try:
                return self.decode().stamp_ns
            except UserError:                         # counted as a broken frame later
                return None
        head = self.payload[:12]
        if head[:4] == ZSTD_MAGIC:
            try:
                head = zstandard.ZstdDecompressor().stream_reader(self.payload).read(12)
            except zstandard.ZstdError:               # counted as a broken frame later
                return None
        if len(head) < 12 or head[0] or head[1] > 1:
            return None
        # Both image types begin with their time, two words behind CDR's four bytes, the second
        # of which tells the byte order.
        seconds, nanoseconds = struct.unpack_from('<iI' if head[1] else '>iI', head, 4)
        return max(0, seconds * 10 ** 9 + nanoseconds)

    def decode(self) -> Any:
        """
        Deserialize.

        :raises UserError: when the bytes are no message of that type.
        """
        payload = self.payload
        try:
            if self.encoding == 'ros1':
                return ROS1_TYPESTORE.deserialize_ros1(payload, self.kind)
            if self.encoding != 'cdr':
                return decode_foxglove(payload, self.encoding, self.kind, self.schema)
            if payload[:4] == ZSTD_MAGIC:             # rosbag2's per-message compression
                # The decompressor would allocate whatever size a broken message claims.
                if zstandard.frame_content_size(payload) > MAX_RECORD_BYTES:
                    raise ValueError
                payload = zstandard.ZstdDecompressor().decompress(
                    payload, max_output_size=MAX_RECORD_BYTES)
            return TYPESTORE.deserialize_cdr(payload, self.kind)
        except Exception as error:                    # rosbags lets any struct or index error out
            raise UserError(f'message of {self.kind} is broken '
                            f'({type(error).__name__})') from error


@dataclass
class BagReport:
    """
    What was seen and what could not be read.

    :param problems: lines for the user.
    :param topics: every topic seen, with its type.
    :param read: topic -> messages that could be read, whatever their type.
    :param unknown: topic -> messages among them whose type or encoding is unknown.
    :param lost: image messages known to be recorded that could not be read.
    :param whole: whether every file could be read to its end.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    whole: bool = True

    def fault(self, problem: str) -> None:
        """Note something that makes the recording less than whole."""
        self.problems.append(problem)
        self.whole = False


def storage_files(path: Path) -> list[Path]:
    """
    The storage files of a recording, in order of time.

    :param path: a bag folder or a single storage file.
    :return: files; empty when the folder holds none.
    """
    if path.is_file():
        return [path]
    files = [item for item in path.iterdir() if is_bag(item) and item.is_file()]
    order = _listed(_metadata(path))
    return sorted(files, key=lambda item: (order.index(item.name) if item.name in order
                                           else len(order), item.name))


def _metadata(path: Path) -> dict[str, Any]:
    """:return: what ``metadata.yaml`` says; empty where it is missing or broken."""
    try:
        information = yaml.safe_load((path / METADATA).read_text())
        information = information['rosbag2_bagfile_information']
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}
    return information if isinstance(information, dict) else {}


def _listed(information: dict[str, Any]) -> list[str]:
    """:return: names of the storage files in order of time."""
    names = information.get('relative_file_paths')
    return [Path(str(name)).name for name in names] if isinstance(names, list) else []


def is_bag(path: Path) -> bool:
    """:return: whether a file is a storage file, by its name."""
    return path.name.lower().endswith(STORAGE_SUFFIXES)


def is_ros1(path: Path) -> bool:
    """:return: whether a file is a recording of ROS 1, by its name."""
    return path.name.lower().endswith(ROS1_SUFFIXES)


def is_recording(path: Path) -> bool:
    """:return: whether a folder is a recording: it has rosbag2's metadata, or any and storage."""
    return bool(_metadata(path)) or (path / METADATA).exists() and any(
        is_bag(item) for item in path.iterdir())


def read_bag(path: Path, report: BagReport, scratch: Path | None = None,
             kinds: tuple[str, ...] = READ_TYPES) -> Iterator[BagMessage]:
    """
    Go through a recording once, in the order it was written.

    :param path: a bag folder or a storage file.
    :param report: filled with topics and problems on the way.
    :param scratch: where compressed files are unpacked; ``None`` for the system's place.
    :param kinds: types of the messages wanted.
    :return: messages of those types; others are only listed in the report.
    """
    files = storage_files(path)
    lost: Counter[str] = Counter()                    # by the files' own account
    for file in files:
        with file.open('rb') as stream:
            head = stream.read(len(LFS_MAGIC))
        if head == LFS_MAGIC:
            report.fault(f'{file} is a Git LFS pointer, not a recording; run `git lfs pull`')
        elif file.name.lower().endswith(PACKED_SUFFIXES):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                plain = Path(folder) / file.stem
                try:
                    with file.open('rb') as packed, plain.open('wb') as unpacked:
                        zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
                except zstandard.ZstdError:
                    report.fault(f'{file}: compressed file is cut off or corrupt; read up to '
                                 'there')
                yield from _read_storage(plain, file, report, lost, kinds)
        else:
            yield from _read_storage(file, file, report, lost, kinds)
    report.lost = _count_images(lost, report)
    if path.is_dir():
        _compare_with_metadata(path, files, report, lost)


def _maybe_images(topic: str, report: BagReport) -> bool:
    """:return: whether a topic has images, or may have: its type is not known."""
    kind = report.topics.get(topic)
    return kind is None or kind in IMAGE_TYPES or not any(
        kind in types for types in KNOWN_TYPES.values())


def _read_storage(file: Path, name: Path, report: BagReport,
                  lost: Counter[str], kinds: tuple[str, ...]) -> Iterator[BagMessage]:
    reader = (read_ros1 if is_ros1(file) else
              read_mcap if file.name.lower().endswith('.mcap') else read_sqlite)
    stored = StorageReport(problems=report.problems)
    unknown: Counter[tuple[str, str]] = Counter()
    for message in reader(file, name, stored):
        kind, encoding = _full_type(message.kind), message.encoding.lower()
        report.read[message.topic] += 1
        if encoding in KNOWN_TYPES and kind in KNOWN_TYPES[encoding] or (
                encoding in FOXGLOVE_ENCODINGS and kind in FOXGLOVE_TYPES):
            if kind in kinds:
                # MCAP's clock is unsigned; half its range is centuries away: a broken stamp.
                stamp = message.stamp if message.stamp < 1 << 63 else 0
                yield BagMessage(message.topic, kind, stamp, message.payload, encoding,
                                 message.schema)
        else:
            unknown[message.topic, f"type '{message.kind}'" + (
                '' if encoding in KNOWN_TYPES else f" in encoding '{message.encoding}'")] += 1
    report.whole &= stored.whole
    report.topics |= {topic: _full_type(kind) for topic, kind in stored.topics.items()}
    for (topic, what), count in unknown.items():
        report.unknown[topic] += count
        report.problems.append(f'{name}: {count} message{"s" * (count > 1)} of {topic} left out, '
                               f'{what} is unknown')
    for topic, count in stored.lost.items():
        lost[topic] += count
        if count > 0 and _maybe_images(topic, report):
            report.problems.append(f'{name}: {count} recorded message{"s" * (count > 1)} of '
                                   f'{"some topic" if topic == "?" else topic} cannot be read')


def promised_images(path: Path) -> dict[str, int]:
    """
    Look up what a recording should hold.

    :param path: a bag folder.
    :return: image topic -> messages by ``metadata.yaml``; empty where that cannot be read.
    """
    try:
        promised = {str(item['topic_metadata']['name']):
                    (_full_type(str(item['topic_metadata']['type'])), int(item['message_count']))
                    for item in _metadata(path)['topics_with_message_count']}
    except (KeyError, TypeError, ValueError):
        return {}
    return {topic: count for topic, (kind, count) in promised.items() if kind in IMAGE_TYPES}


def known_topics(path: Path) -> set[str] | None:
    """
    Look up what a recording holds without reading it.

    :param path: a bag folder or a storage file.
    :return: topics by ``metadata.yaml`` and the files' own indexes; ``None`` where one is missing.
    """
    topics = set(promised_images(path)) if path.is_dir() else set()
    for file in storage_files(path):
        if is_ros1(file):
            found = ros1_topics(file)
        elif file.name.lower().endswith('.mcap'):
            found = mcap_topics(file)
        elif file.name.lower().endswith('.db3'):
            found = sqlite_topics(file)
        else:                                         # packed
            found = topics or None
        if found is None:
            return None
        topics |= found
    return topics


def _compare_with_metadata(path: Path, files: list[Path], report: BagReport,
                           lost: Counter[str]) -> None:
    """Report what ``metadata.yaml`` promises and the files do not hold."""
    for name in _listed(_metadata(path)):
        if not any(_unpacked(file.name) == _unpacked(name) for file in files):
            report.fault(f'{path}: {name} is named in metadata.yaml but is not there')
    promised = promised_images(path)
    if report.whole:
        for topic in [topic for topic, count in promised.items()
                      if count and topic not in report.topics]:
            del promised[topic]
            report.problems.append(f'{path}: metadata.yaml speaks of {topic}, which the files do '
                                   'not hold; the files are believed')
    for topic, count in promised.items():
        have = report.read[topic] + max(0, lost[topic])
        if count > have:
            report.problems.append(f'{path}: metadata.yaml counts {count} messages of {topic}, '
                                   f'{count - have} more than the files hold')
    images = {topic for topic in report.read if _maybe_images(topic, report)}
    if images <= set(promised):                       # which tells whether lost rows were images
        del lost['?']
        report.lost = _count_images(lost, report)
    # In total, for a broken name moves messages to a topic that nobody promised.
    read = sum(report.read[topic] for topic in images)
    report.lost = max(report.lost, sum(promised.values()) - read)


def _count_images(lost: Counter[str], report: BagReport) -> int:
    """:return: images among messages lost; a broken number gives one topic's to another."""
    return max(0, sum(count for topic, count in lost.items() if _maybe_images(topic, report)))


def _unpacked(name: str) -> str:
    """:return: a storage file's name without what compression adds to it."""
    for suffix in PACKED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _full_type(kind: str) -> str:
    """:return: ``package/msg/Type`` for names with or without ``/msg/``, foxglove's included."""
    package, _, name = kind.rpartition('/')
    package = package.split('/')[0].split('.')[0]
    if kind.startswith('foxglove'):
        package, name = 'foxglove_msgs', kind.replace('.', '/').rpartition('/')[2]
    return f'{package}/msg/{name}'
