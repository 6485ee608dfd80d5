"""
Messages out of rosbag2 recordings, storage file by storage file.

The storage files say what they hold; ``metadata.yaml`` only orders them and may be missing or
wrong. MCAP files are read in sequence, chunk by chunk, so that one without an index or cut off
in the middle still gives all that lies before the cut.
"""
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
import zstandard
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from imn_world_model.data.mcap_storage import MAX_RECORD_BYTES, read_mcap
from imn_world_model.data.sqlite_storage import read_sqlite
from imn_world_model.data.storage import StorageReport
from imn_world_model.errors import UserError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage',
               'foxglove_msgs/msg/CompressedImage')
TEXT_TYPE = 'std_msgs/msg/String'
READ_TYPES = (*IMAGE_TYPES, TEXT_TYPE)
STORAGE_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
LFS_MAGIC = b'version https://git-lfs'

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
    What could not be read, one line each.

    :param problems: lines for the user.
    :param topics: every topic seen, with its type.
    :param read: topic -> messages read or already reported as lost.
    :param lost: image messages known to be recorded that could not be read.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)
    lost: int = 0


def storage_files(path: Path) -> list[Path]:
    """
    The storage files of a recording, in order of time.

    :param path: a bag folder or a single storage file.
    :return: files; empty when the folder holds none.
    """
    if path.is_file():
        return [path]
    files = sorted(item for item in path.iterdir() if item.name.endswith(STORAGE_SUFFIXES))
    order = _listed(_metadata(path))
    return sorted(files, key=lambda item: (order.index(item.name) if item.name in order
                                           else len(order), item.name))


def _metadata(path: Path) -> dict[str, Any]:
    """:return: what ``metadata.yaml`` says; empty where it is missing or broken."""
    try:
        information = yaml.safe_load((path / 'metadata.yaml').read_text())
        information = information['rosbag2_bagfile_information']
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}
    return information if isinstance(information, dict) else {}


def _listed(information: dict[str, Any]) -> list[str]:
    """:return: names of the storage files in order of time."""
    names = information.get('relative_file_paths')
    return [Path(str(name)).name for name in names] if isinstance(names, list) else []


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
    files = storage_files(path)
    for file in files:
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
    if path.is_dir():
        _compare_with_metadata(path, files, report)


def _read_storage(file: Path, name: Path, report: BagReport) -> Iterator[BagMessage]:
    reader = read_mcap if file.name.endswith('.mcap') else read_sqlite
    stored = StorageReport(problems=report.problems)
    ignored: Counter[tuple[str, str]] = Counter()
    for message in reader(file, name, stored):
        kind = _full_type(message.kind)
        report.read[message.topic] += 1
        if kind not in READ_TYPES:
            if kind not in TYPESTORE.types:
                ignored[message.topic, message.kind] += 1
        elif message.encoding.lower() != 'cdr':
            ignored[message.topic, f'{message.kind} in {message.encoding or "no"} encoding'] += 1
        else:
            # MCAP's clock is unsigned; half its range is centuries away, so a broken stamp.
            stamp = message.stamp if message.stamp < 1 << 63 else 0
            yield BagMessage(message.topic, kind, stamp, message.payload)
    report.topics |= {topic: _full_type(kind) for topic, kind in stored.topics.items()}
    for (topic, type_name), count in ignored.items():
        report.problems.append(f"{name}: {count} messages of {topic} left out, type '{type_name}' "
                               'is unknown')
    for topic, count in stored.lost.items():
        report.read[topic] += count
        if topic == '?' or report.topics.get(topic) in (*IMAGE_TYPES, None):
            report.lost += count
            report.problems.append(f'{name}: {count} recorded messages of '
                                   f'{"some topic" if topic == "?" else topic} cannot be read')


def _compare_with_metadata(path: Path, files: list[Path], report: BagReport) -> None:
    """Report what ``metadata.yaml`` promises and the files do not hold."""
    information = _metadata(path)
    missing = [name for name in _listed(information) if not any(
        file.name.removesuffix('.zstd') == name.removesuffix('.zstd') for file in files)]
    report.problems += [f'{path}: {name} is named in metadata.yaml but is not there'
                        for name in missing]
    try:
        promised = {str(item['topic_metadata']['name']):
                    (_full_type(str(item['topic_metadata']['type'])), int(item['message_count']))
                    for item in information['topics_with_message_count']}
    except (KeyError, TypeError, ValueError):
        return
    for topic, (kind, count) in promised.items():
        if topic not in report.topics:
            if count and kind in IMAGE_TYPES and report.topics:
                report.problems.append(f'{path}: metadata.yaml speaks of {topic}, which the files '
                                       'do not hold; the files are believed')
        elif kind in IMAGE_TYPES and count > report.read[topic]:
            lost = count - report.read[topic]
            report.lost += lost
            report.problems.append(f'{path}: metadata.yaml counts {count} messages of {topic}, '
                                   f'{lost} more than the files hold')


def _full_type(kind: str) -> str:
    """:return: ``package/msg/Type`` for names with or without ``/msg/``, foxglove's included."""
    package, _, name = kind.rpartition('/')
    package = package.split('/')[0].split('.')[0]
    if kind.startswith('foxglove'):
        package, name = 'foxglove_msgs', kind.replace('.', '/').rpartition('/')[2]
    return f'{package}/msg/{name}'
