"""Recordings of ROS 1, written by rosbags: the same frames as from ROS 2, damaged or not."""
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import IMAGE, STRING, drive, noise, raw, scene, write_bag
from rosbags.rosbag1 import Reader, Writer
from rosbags.typesys import Stores, get_typestore

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames, load_frames

STORE1 = get_typestore(Stores.ROS1_NOETIC)
FORMATS = [None, Writer.CompressionFormat.BZ2, Writer.CompressionFormat.LZ4]
NUM_NOISE = 20


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def as_ros1(message: Any, kind: str) -> Any:
    """:return: a ROS 2 message as one of ROS 1, whose header has a number, too."""
    types = STORE1.types
    if kind == STRING:
        return types[kind](data=message.data)
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__
              if name not in ('header', '__msgtype__')}
    stamp = message.header.stamp
    time = types['builtin_interfaces/msg/Time'](sec=stamp.sec, nanosec=stamp.nanosec)
    return types[kind](header=types['std_msgs/msg/Header'](
        seq=77, stamp=time, frame_id=message.header.frame_id), **fields)


def write_ros1(path: Path, messages: list[tuple[str, str, int, Any]],
               compression: Writer.CompressionFormat | None = None) -> Path:
    """Write a bag; a chunk holds about a megabyte."""
    writer = Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections = {}
        for topic, kind, stamp, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE1)
            writer.write(connections[topic], stamp,
                         STORE1.serialize_ros1(as_ros1(message, kind), kind))
    return path


def noise_ros1(path: Path, compression: Writer.CompressionFormat | None = None) -> Path:
    return write_ros1(path, [('/camera', IMAGE, k + 1, raw(noise(k), 'rgb8', k + 1))
                             for k in range(NUM_NOISE)], compression)


def chunks(path: Path) -> list[int]:
    """:return: where the chunks of a bag begin."""
    with Reader(path) as reader:
        return sorted(info.pos for info in reader.chunk_infos)


def accounted(frames: Frames) -> int:
    report = frames.reports[0]
    parts = [report[key] for key in ('used', 'still', 'broken', 'left', 'lost')]
    assert sum(parts) == report['recorded']
    return sum(parts)


def noted(frames: Frames, words: str) -> bool:
    return any(words in note for note in frames.notes)


@pytest.mark.parametrize('compression', FORMATS)
def test_a_bag_of_ros1_gives_the_frames_of_one_of_ros2(
        tmp_path: Path, options: DataOptions, compression: Writer.CompressionFormat | None
        ) -> None:
    messages = drive(2, 4)
    messages += [('/raw', IMAGE, k + 1, raw(scene(3, k), 'bgr8', 10 ** 9 + k)) for k in range(4)]
    messages += [('/depth', IMAGE, 1, raw(np.ones((48, 64), '<u2'), '16UC1'))]
    messages.sort(key=lambda item: item[2])
    one = load(write_ros1(tmp_path / 'drive.bag', messages, compression), options)
    two = load(write_bag(tmp_path / 'drive', messages), options)
    for name in ('stamp', 'clip', 'topic', 'index'):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert np.array_equal(one.images[:], two.images[:]) and len(one.images) == 12
    assert one.topics == two.topics == ('/camera/image', '/raw')
    assert len(one.notes) == 1 and noted(one, '/depth left out, 1 message (depth or mask')


def test_ground_truth_of_ros1_is_read(tmp_path: Path, options: DataOptions) -> None:
    messages = drive(1, 3)
    store = get_typestore(Stores.ROS2_JAZZY)
    messages += [('/truth', STRING, stamp, store.types[STRING](
        data=json.dumps({'stamp': stamp, 'shape': 'cube'}))) for _, _, stamp, _ in list(messages)]
    bag = write_ros1(tmp_path / 'a.bag', sorted(messages, key=lambda item: item[2]))
    frames = load(bag, replace(options, ground_truth_topic='/truth'))
    assert frames.label_names == {'shape': ('cube',)}


def test_bags_are_found_in_folders(tmp_path: Path, options: DataOptions) -> None:
    (tmp_path / 'logs' / 'monday').mkdir(parents=True)
    write_ros1(tmp_path / 'logs' / 'monday' / 'a.bag', drive(1, 3))
    write_bag(tmp_path / 'logs' / 'b', drive(1, 4))
    frames = load(tmp_path / 'logs', options)
    assert len(frames.sources) == 2 and len(frames.images) == 7 and not frames.notes


def test_zero_stamps_fall_back_to_the_time_of_recording(tmp_path: Path, options: DataOptions
                                                        ) -> None:
    messages = [('/camera', IMAGE, 10 ** 9 + k, raw(scene(0, k), 'rgb8', 0)) for k in range(3)]
    frames = load(write_ros1(tmp_path / 'a.bag', messages), options)
    assert frames.stamp.tolist() == [10 ** 9, 10 ** 9 + 1, 10 ** 9 + 2]
    assert noted(frames, 'without a stamp of its own')


@pytest.mark.parametrize('compression', FORMATS)
def test_corrupt_chunk_costs_only_itself(tmp_path: Path, options: DataOptions,
                                         compression: Writer.CompressionFormat | None) -> None:
    bag = noise_ros1(tmp_path / 'a.bag', compression)
    data = bytearray(bag.read_bytes())
    start = chunks(bag)[2]
    data[start:start + 600] = bytes(255 for _ in range(600))
    bag.write_bytes(data)
    frames = load(bag, options)
    assert NUM_NOISE - 6 <= len(frames.images) < NUM_NOISE and frames.stamp[-1] == NUM_NOISE
    assert noted(frames, 'corrupt chunk') and accounted(frames) == NUM_NOISE


@pytest.mark.parametrize('compression', FORMATS)
def test_cut_bag_gives_what_lies_before_the_cut(
        tmp_path: Path, options: DataOptions, compression: Writer.CompressionFormat | None
        ) -> None:
    bag = noise_ros1(tmp_path / 'a.bag', compression)
    places = chunks(bag)
    cut = places[2] + int((places[3] - places[2]) * 0.8)
    bag.write_bytes(bag.read_bytes()[:cut])
    frames = load(bag, options)
    whole = tmp_path / 'whole.bag'
    whole.write_bytes(bag.read_bytes()[:places[2]])
    before = load(whole, options)
    # bzip2 gives nothing of a block that is cut.
    least = 0 if compression is Writer.CompressionFormat.BZ2 else 1
    assert len(frames.images) >= len(before.images) + least
    assert noted(frames, 'how much is lost is not known') and noted(before, 'not known')


def test_bag_of_a_recorder_that_was_killed_is_read(tmp_path: Path, options: DataOptions) -> None:
    bag = noise_ros1(tmp_path / 'a.bag')
    data = bytearray(bag.read_bytes())
    index = data.index(b'index_pos=') + len(b'index_pos=')
    place = int.from_bytes(data[index:index + 8], 'little')
    data[index:index + 8] = bytes(8)
    active = tmp_path / 'b.bag.active'
    active.write_bytes(data[:place])
    frames = load(active, options)
    assert len(frames.images) == NUM_NOISE
    assert noted(frames, 'no index')


@pytest.mark.parametrize(('data', 'cause'), [
    (b'junk', 'no recording of ROS 1'), (b'', 'no recording of ROS 1'),
    (b'#ROSBAG V1.2\n' + bytes(99), 'version 1.2'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull')])
def test_what_is_no_bag_is_named(tmp_path: Path, options: DataOptions, data: bytes, cause: str
                                 ) -> None:
    (tmp_path / 'a.bag').write_bytes(data)
    with pytest.raises(UserError, match=cause):
        load(tmp_path / 'a.bag', options)


@pytest.mark.parametrize('compression', FORMATS)
def test_damaged_bags_never_escape_the_error(
        tmp_path: Path, options: DataOptions, compression: Writer.CompressionFormat | None
        ) -> None:
    bag = write_ros1(tmp_path / 'a.bag', drive(2, 5), compression)
    good = bag.read_bytes()
    rng = np.random.default_rng(0)
    read = 0
    for number in range(60):
        data = bytearray(good)
        for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
            data[place] = rng.integers(256)
        bag.write_bytes(data[:int(rng.integers(len(data)))] if number % 3 == 0 else data)
        try:
            frames = load(bag, replace(options, size=8))
        except UserError as error:
            assert '\n' not in str(error)
            continue
        read += 1
        assert len(frames.images) <= 10
        accounted(frames)
    assert read > 2


@pytest.mark.parametrize('index', [True, False])
def test_raw_and_compressed_of_one_camera_are_read_once(tmp_path: Path, options: DataOptions,
                                                        index: bool) -> None:
    messages = [('/cam', IMAGE, stamp, raw(scene(0, k), 'rgb8', stamp))
                for k, (_, _, stamp, _) in enumerate(drive(1, 3))]
    messages += drive(1, 3, topic='/cam/compressed')
    bag = write_ros1(tmp_path / 'a.bag', sorted(messages, key=lambda item: item[2]))
    if not index:
        data = bytearray(bag.read_bytes())
        place = data.index(b'index_pos=') + len(b'index_pos=')
        data[place:place + 8] = bytes(8)
        bag.write_bytes(data)
    frames = load(bag, options)
    assert frames.topics == ('/cam',) and len(frames.images) == 3
    assert noted(frames, '/cam/compressed left out, 3 messages (the same pictures as /cam)')
