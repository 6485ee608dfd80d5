"""Damaged recordings: what can be read is used, the rest is counted and named."""
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType
from recordings import (
    COMPRESSED,
    IMAGE,
    NUM_NOISE,
    STORE,
    STRING,
    compressed,
    damage,
    drive,
    header,
    mcap_with_checksums,
    noise_bag,
    raw,
    scene,
    storage_file,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin
from test_data_frames import write_video

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import TYPESTORE
from imn_world_model.data.cache import CacheError, built_once
from imn_world_model.data.frames import DataOptions, Frames, load_frames


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def accounted(frames: Frames) -> int:
    """:return: frames of the first source that are used or reported by number."""
    report = frames.reports[0]
    parts = [report[key] for key in ('used', 'still', 'broken', 'left', 'lost')]
    assert sum(parts) == report['recorded']
    return sum(parts)


def noted(frames: Frames, words: str) -> bool:
    return any(words in note for note in frames.notes)


def test_corrupt_chunk_costs_only_itself(tmp_path: Path, options: DataOptions) -> None:
    file = mcap_with_checksums(tmp_path / 'log.mcap')
    damage(file, 0.4, 2000)
    frames = load(file, options)
    assert NUM_NOISE - 6 <= len(frames.images) < NUM_NOISE
    assert frames.stamp[-1] == NUM_NOISE             # what lies behind the chunk is used
    assert noted(frames, 'corrupt chunk') and accounted(frames) == NUM_NOISE
    file.write_bytes(file.read_bytes()[:-100])       # without its index, in sequence
    frames = load(file, options)
    assert len(frames.images) < NUM_NOISE and frames.stamp[-1] == NUM_NOISE
    assert noted(frames, 'corrupt chunk') and accounted(frames) == NUM_NOISE  # by its own index


def test_broken_length_of_a_chunk_does_not_hide_those_behind_it(tmp_path: Path,
                                                               options: DataOptions) -> None:
    file = mcap_with_checksums(tmp_path / 'log.mcap')
    with file.open('rb') as stream:
        starts = sorted(index.chunk_start_offset
                        for index in make_reader(stream).get_summary().chunk_indexes)
    data = bytearray(file.read_bytes())
    data[starts[2] + 4] ^= 0x40                      # now it claims to be a terabyte long
    file.write_bytes(data)
    frames = load(file, options)
    assert frames.stamp[-1] == NUM_NOISE and accounted(frames) == NUM_NOISE
    assert 0 < frames.reports[0]['lost'] < 6


@pytest.mark.parametrize('compression', [CompressionType.NONE, CompressionType.ZSTD,
                                         CompressionType.LZ4])
def test_cut_in_the_middle_of_a_chunk_uses_its_first_messages(tmp_path: Path, options: DataOptions,
                                                              compression: CompressionType
                                                              ) -> None:
    file = mcap_with_checksums(tmp_path / 'log.mcap', compression)
    with file.open('rb') as stream:
        chunks = sorted(make_reader(stream).get_summary().chunk_indexes,
                        key=lambda index: index.chunk_start_offset)
    cut = chunks[2].chunk_start_offset + int(chunks[2].chunk_length * 0.8)
    whole = tmp_path / 'whole.mcap'
    whole.write_bytes(file.read_bytes()[:chunks[2].chunk_start_offset])
    file.write_bytes(file.read_bytes()[:cut])
    assert len(load(file, options).images) >= len(load(whole, options).images) + 1
    assert noted(load(file, options), 'not known')


def test_corrupt_sqlite_page_costs_only_its_rows(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', [('/camera', IMAGE, k + 1, raw(
        scene(k, 0, 24, 32), 'rgb8', k + 1)) for k in range(200)], StoragePlugin.SQLITE3)
    file = storage_file(bag)
    damage(file, 0.5, 4096)
    bare = tmp_path / 'bare.db3'
    shutil.copy(file, bare)
    for path in (bag, bare):
        frames = load(path, options)
        assert 150 < len(frames.images) < 200 and frames.stamp[-1] == 200
        assert noted(frames, 'corrupt after row') and accounted(frames) == 200


def test_cut_sqlite_gives_the_rows_before_the_cut(tmp_path: Path, options: DataOptions) -> None:
    bag = noise_bag(tmp_path / 'bag', StoragePlugin.SQLITE3)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    frames = load(bag, options)
    assert 4 <= len(frames.images) <= 11 and accounted(frames) == NUM_NOISE
    (bag / 'metadata.yaml').unlink()
    alone = load(bag, options)
    assert len(alone.images) == len(frames.images) and accounted(alone) == NUM_NOISE


def test_cut_mcap_counts_what_metadata_promised(tmp_path: Path, options: DataOptions) -> None:
    bag = noise_bag(tmp_path / 'bag', StoragePlugin.MCAP)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    frames = load(bag, options)
    assert 4 <= len(frames.images) <= 11 and accounted(frames) == NUM_NOISE
    assert noted(frames, 'metadata.yaml counts 20 messages of /camera')
    (bag / 'metadata.yaml').unlink()
    alone = load(bag, options)
    assert len(alone.images) == len(frames.images)
    assert noted(alone, 'how much is lost is not known')


def test_missing_part_of_a_split_recording_is_named(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive())
    metadata = bag / 'metadata.yaml'
    name = storage_file(bag).name
    metadata.write_text(metadata.read_text().replace(f'- {name}', f'- {name}\n  - bag_1.mcap'))
    frames = load(bag, options)
    assert len(frames.images) == 18 and noted(frames, 'bag_1.mcap is named in metadata.yaml but')


def test_split_recording_is_read_in_the_order_of_its_metadata(tmp_path: Path,
                                                              options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1, 5))
    later = write_bag(tmp_path / 'later', drive(1, 5, start=2 * 10 ** 9))
    first = storage_file(bag).rename(bag / 'z.mcap')
    shutil.copy(storage_file(later), bag / 'a.mcap')
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('- bag.mcap', f'- {first.name}\n  - a.mcap'))
    frames = load(bag, options)
    assert len(frames.images) == 10 and not frames.notes
    assert (np.diff(frames.stamp) > 0).all()


def test_unknown_message_type_is_named_once(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1, 4) + drive(1, 3, topic='/other'),
                    StoragePlugin.SQLITE3)
    file, bare = storage_file(bag), tmp_path / 'bare.db3'
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = 'robot_msgs/msg/Picture' "
                         "WHERE name = '/other'")
    database.close()
    shutil.copy(file, bare)
    frames = load(bare, options)
    assert len(frames.images) == 4 and len(frames.notes) == 1
    assert noted(frames, "3 messages of /other left out, type 'robot_msgs/msg/Picture' is unknown")


@pytest.mark.parametrize('spelling', ['sensor_msgs/CompressedImage',
                                      'sensor_msgs/msg/CompressedImage'])
def test_type_is_known_with_and_without_msg(tmp_path: Path, options: DataOptions,
                                            spelling: str) -> None:
    file = storage_file(write_bag(tmp_path / 'bag', drive(1, 4), StoragePlugin.SQLITE3))
    with sqlite3.connect(file) as database:
        database.execute('UPDATE topics SET type = ?', (spelling,))
    database.close()
    assert len(load(file, options).images) == 4


def test_zero_stamps_fall_back_to_the_time_of_recording(tmp_path: Path, options: DataOptions
                                                        ) -> None:
    messages = [('/camera', COMPRESSED, (k + 1) * 10 ** 8, compressed(scene(0, k), 0))
                for k in range(4)]
    frames = load(write_bag(tmp_path / 'bag', messages), options)
    assert frames.stamp.tolist() == [10 ** 8, 2 * 10 ** 8, 3 * 10 ** 8, 4 * 10 ** 8]


def test_stamps_going_back_end_a_clip_and_are_kept(tmp_path: Path, options: DataOptions) -> None:
    stamps = [10, 11, 12, 3, 4, 5]
    messages = [('/camera', COMPRESSED, k + 1, compressed(scene(0, k), stamp * 10 ** 9))
                for k, stamp in enumerate(stamps)]
    frames = load(write_bag(tmp_path / 'bag', messages), replace(options, gap=2.0))
    assert (frames.stamp // 10 ** 9).tolist() == stamps
    assert frames.clip.tolist() == [0, 0, 0, 1, 1, 1]


def test_foxglove_compressed_images_are_read(tmp_path: Path, options: DataOptions) -> None:
    kind = 'foxglove_msgs/msg/CompressedImage'
    picture = compressed(scene(1), 5 * 10 ** 9)
    message = TYPESTORE.types[kind](timestamp=header(5 * 10 ** 9).stamp, frame_id='camera',
                                    data=picture.data, format='jpeg')
    STORE.register({kind: TYPESTORE.fielddefs[kind]})
    frames = load(write_bag(tmp_path / 'bag', [('/camera', kind, 1, message)]), options)
    assert len(frames.images) == 1 and frames.stamp[0] == 5 * 10 ** 9


def test_topic_without_messages_is_no_fault(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1, 3), StoragePlugin.SQLITE3)
    with sqlite3.connect(storage_file(bag)) as database:
        database.execute("INSERT INTO topics SELECT id + 1, '/empty', type, "
                         'serialization_format, offered_qos_profiles, type_description_hash '
                         'FROM topics')
    database.close()
    frames = load(bag, options)
    assert len(frames.images) == 3 and not frames.notes
    assert '/empty' in frames.reports[0]['all_topics']


def test_recorder_that_crashed_leaves_its_write_ahead_log(tmp_path: Path, options: DataOptions
                                                          ) -> None:
    file = storage_file(write_bag(tmp_path / 'bag', drive(1, 3), StoragePlugin.SQLITE3))
    writer = sqlite3.connect(file)
    writer.execute('PRAGMA journal_mode=WAL')
    writer.execute('INSERT INTO messages SELECT id + 10, topic_id, timestamp + 1000, data '
                   'FROM messages')
    writer.commit()
    crashed = tmp_path / 'crashed.db3'
    shutil.copy(file, crashed)
    shutil.copy(f'{file}-wal', f'{crashed}-wal')
    writer.close()
    assert len(load(crashed, options).images) == 6


def test_remainder_of_a_killed_builder_is_removed(tmp_path: Path,
                                                                    options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1, 3))
    load(bag, options)
    entry = next(path for path in (tmp_path / 'cache').iterdir() if path.is_dir())
    left = entry.with_name(f'.{entry.name}.dead')
    entry.rename(left)
    load(bag, options)
    assert entry.exists() and not left.exists()


def test_text_only_recording_has_no_images(tmp_path: Path, options: DataOptions) -> None:
    text = STORE.types[STRING](data='hello')
    with pytest.raises(UserError, match='no image topic'):
        load(write_bag(tmp_path / 'bag', [('/chatter', STRING, 1, text)]), options)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix='imn-cache-'))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_cache_that_may_not_be_written_to_is_one_error(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:                                        # to whom nothing is forbidden
        os.seteuid(65534)
    try:
        with pytest.raises(CacheError, match='not writable; set IMN_CACHE_DIR'):
            with built_once(open_folder / 'entry', lambda entry: False):
                pass
    finally:
        os.seteuid(user)


def test_full_disk_of_the_cache_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match='no space left'):
        with built_once(tmp_path / 'cache' / 'entry', lambda entry: False) as scratch:
            assert scratch is not None
            scratch.mkdir()
            (scratch / 'images.bin').symlink_to('/dev/full')
            with (scratch / 'images.bin').open('wb', buffering=0) as stream:
                stream.write(b'pixels')
    assert [path.suffix for path in (tmp_path / 'cache').iterdir()] == ['.lock']


def test_video_time_never_goes_back(tmp_path: Path, options: DataOptions,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenCV gives time 0 for the last frames of H.264 in AVI with B-frames (opencv#22141).
    genuine = cv2.VideoCapture

    class Forgetful:
        """A capture whose clock stops before its frames do."""

        def __init__(self, path: str) -> None:
            self.capture, self.count = genuine(path), 0

        def read(self) -> tuple[bool, np.ndarray]:
            self.count += 1
            return self.capture.read()

        def get(self, what: int) -> float:
            if what == cv2.CAP_PROP_POS_MSEC and self.count in (1, 5, 11, 12):
                return 0.0
            return self.capture.get(what)

        def isOpened(self) -> bool:
            return self.capture.isOpened()

        def release(self) -> None:
            self.capture.release()

    path = write_video(tmp_path / 'drive.avi')        # 10 Hz
    monkeypatch.setattr(cv2, 'VideoCapture', Forgetful)
    frames = load(path, options)
    assert len(np.unique(frames.clip)) == 1 and not frames.notes
    assert np.allclose(np.diff(frames.stamp), 10 ** 8, atol=2) and frames.stamp[0] == 1
