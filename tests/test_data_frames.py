"""Recordings to frames: every container, every fault; nothing is lost without a word."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from recordings import (
    COMPRESSED,
    IMAGE,
    STORE,
    STRING,
    compressed,
    drive,
    raw,
    scene,
    storage_file,
    write_bag,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from imn_world_model.base.errors import UserError
from imn_world_model.data.clips import cut_clips, moving, split_clips, split_factors
from imn_world_model.data.frames import DataOptions, Frames, load_frames


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def noted(frames: Frames, words: str) -> bool:
    return any(words in note for note in frames.notes)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('compression', [None, CompressionMode.MESSAGE, CompressionMode.FILE,
                                         CompressionMode.STORAGE])
def test_rosbag2_of_every_storage_and_compression(tmp_path: Path, options: DataOptions,
                                                  storage: StoragePlugin,
                                                  compression: CompressionMode | None) -> None:
    if compression is CompressionMode.STORAGE and storage is StoragePlugin.SQLITE3:
        compression = None                           # sqlite3 has no compression of its own
    frames = load(write_bag(tmp_path / 'bag', drive(), storage, compression), options)
    assert len(frames.images) == 18 and not frames.notes
    assert np.bincount(frames.clip).tolist() == [6, 6, 6]
    assert frames.topics == ('/camera/image',)
    assert frames.stamp[1] - frames.stamp[0] == 10 ** 8
    expected = cv2.resize(scene(1, 2)[:, 8:56], (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(frames.images[8].astype(int) - expected).mean() < 8


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('compression', [None, CompressionMode.MESSAGE])
def test_bare_storage_files_without_metadata(tmp_path: Path, options: DataOptions,
                                             storage: StoragePlugin,
                                             compression: CompressionMode | None) -> None:
    # With message compression the bare file does not say that its messages are compressed.
    bag = write_bag(tmp_path / 'bag', drive(), storage, compression)
    bare = tmp_path / storage_file(bag).name
    shutil.copy(storage_file(bag), bare)
    frames = load(bare, options)
    assert len(frames.images) == 18 and not frames.notes


def test_metadata_that_contradicts_the_file_is_not_believed(tmp_path: Path, options: DataOptions
                                                            ) -> None:
    bag = write_bag(tmp_path / 'bag', drive())
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('/camera/image', '/elsewhere').replace(
        'sensor_msgs/msg/', 'sensor_msgs/'))
    assert len(load(bag, options).images) == 18
    metadata.write_text('}not: [yaml')
    assert len(load(bag, replace(options, size=8)).images) == 18
    metadata.unlink()
    assert len(load(bag, replace(options, size=12)).images) == 18


def test_topics_are_chosen_and_depth_left_out(tmp_path: Path, options: DataOptions) -> None:
    messages = drive(2) + drive(2, topic='/rear/image')
    depth = np.full((48, 64), 1000, np.uint16)
    for k in range(3):
        messages.append(('/range', IMAGE, k + 1, raw(depth, '16UC1', k + 1, step=128)))
        messages.append(('/camera/depth/image', COMPRESSED, k + 1, compressed(scene(0), k + 1)))
    bag = write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    frames = load(bag, options)
    assert frames.topics == ('/camera/image', '/rear/image') and len(frames.images) == 24
    assert noted(frames, '/range left out, 3 messages (depth or mask by its encoding')
    assert noted(frames, '/camera/depth/image left out, 3 messages (depth or mask by its name')
    # Frames of one clip come from one topic.
    for clip in np.unique(frames.clip):
        assert len(np.unique(frames.topic[frames.clip == clip])) == 1
    rear = load(bag, replace(options, topics=('/rear/*',)))
    assert rear.topics == ('/rear/image',) and len(rear.images) == 12


def test_raw_and_compressed_give_the_same_frames(tmp_path: Path, options: DataOptions) -> None:
    messages = [('/raw', IMAGE, k + 1, raw(scene(k), 'rgb8', k + 1)) for k in range(4)]
    messages += [('/png', COMPRESSED, k + 1, compressed(scene(k), k + 1, 'png'))
                 for k in range(4)]
    frames = load(write_bag(tmp_path / 'bag', messages), replace(options, scene_change=1e9))
    png, plain = (frames.images[np.flatnonzero(frames.topic == k)] for k in range(2))
    assert np.array_equal(png, plain) and len(png) == 4


def test_broken_frames_are_counted_and_named(tmp_path: Path, options: DataOptions) -> None:
    messages = drive(1, 10)
    for k in (3, 5):
        messages[k][3].data = np.frombuffer(b'broken', np.uint8)
    frames = load(write_bag(tmp_path / 'bag', messages), options)
    assert len(frames.images) == 8 and noted(frames, '2 broken frames left out')
    assert frames.index.tolist() == [0, 1, 2, 4, 6, 7, 8, 9]


def test_truncated_mcap_gives_what_lies_before_the_cut(tmp_path: Path, options: DataOptions
                                                       ) -> None:
    messages = [('/camera', IMAGE, k + 1, raw(np.random.default_rng(k).integers(
        0, 256, (240, 320, 3), dtype=np.uint8), 'rgb8', k + 1)) for k in range(20)]
    file = storage_file(write_bag(tmp_path / 'bag', messages))
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * 0.6)])
    frames = load(tmp_path / 'bag', replace(options, scene_change=1e9))
    assert 5 <= len(frames.images) <= 12 and noted(frames, 'cut off or corrupt')


def test_corrupt_sqlite_is_named(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive(), StoragePlugin.SQLITE3)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:6000])
    with pytest.raises(UserError, match='nothing usable.*(corrupt|cannot be read)'):
        load(bag, options)


def test_lfs_pointer_and_empty_and_imageless_logs(tmp_path: Path, options: DataOptions) -> None:
    pointer = tmp_path / 'log.mcap'
    pointer.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(UserError, match='Git LFS pointer.*git lfs pull'):
        load(pointer, options)
    text = STORE.types[STRING](data='hello')
    bag = write_bag(tmp_path / 'text', [('/chatter', STRING, 1, text)])
    with pytest.raises(UserError, match='no image topic'):
        load(bag, options)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='nothing usable'):
        load(tmp_path / 'empty', options)
    with pytest.raises(UserError, match='does not exist'):
        load(tmp_path / 'nowhere', options)
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(UserError, match='unknown kind'):
        load(tmp_path / 'notes.txt', options)


def write_h5(path: Path, count: int = 30) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, 'w') as file:
        file['images'] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = np.zeros((count, 6))
        labels[:, 0], labels[:, 4] = rng.integers(10, size=count) / 10, np.arange(count) % 4
        labels[:, 3], labels[:, 5] = 1.25, -30.0
        file['labels'] = labels
    return path


def write_video(path: Path, count: int = 12) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    assert writer.isOpened()
    for k in range(count):
        writer.write(cv2.cvtColor(scene(7, k), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_images(folder: Path, number: int, count: int = 5) -> Path:
    folder.mkdir(parents=True)
    for k in range(count):
        cv2.imwrite(str(folder / f'{k}.png'), cv2.cvtColor(scene(number, k), cv2.COLOR_RGB2BGR))
    return folder


def test_a_folder_with_everything_at_once(tmp_path: Path, options: DataOptions) -> None:
    logs = tmp_path / 'logs'
    (logs / 'monday').mkdir(parents=True)
    write_bag(logs / 'monday' / 'bag', drive())
    write_bag(tmp_path / 'other', drive(), StoragePlugin.SQLITE3)
    shutil.copy(storage_file(tmp_path / 'other'), logs / 'bare.db3')
    write_h5(logs / 'shapes.h5')
    write_video(logs / 'drive.avi')
    write_images(logs / 'photos' / 'cup', 1)
    write_images(logs / 'photos' / 'box', 2)
    (logs / 'broken.mcap').write_bytes(b'junk')
    (logs / 'readme.txt').write_text('not data')
    frames = load(logs, options)
    assert len(frames.images) == 18 + 18 + 30 + 12 + 10
    assert len(frames.sources) == 6 and noted(frames, 'broken.mcap')
    assert len(np.unique(frames.clip)) == 3 + 3 + 30 + 1 + 2   # numbered photos: a clip each
    assert frames.label_names['class'] == ('box', 'cup')
    assert frames.label_names['shape'] == ('cube', 'cylinder', 'sphere', 'capsule')
    assert (frames.labels['class'] >= 0).sum() == 10 and (frames.labels['shape'] >= 0).sum() == 30
    # Images come back the same by number, by slice and by array.
    assert np.array_equal(frames.images[40], frames.images[38:42][2])
    assert np.array_equal(frames.images[np.array([87, 3])][1], frames.images[3])
    for clip in np.unique(frames.clip):              # split by clip, never by frame
        assert len(np.unique(frames.split[frames.clip == clip])) == 1


def test_h5_of_another_form_is_refused_in_one_line(tmp_path: Path, options: DataOptions) -> None:
    path = tmp_path / 'x.h5'
    path.write_bytes(b'no hdf5')
    with pytest.raises(UserError, match='not in the 3Dshapes format'):
        load(path, options)
    with h5py.File(path, 'w') as file:
        file['images'] = np.zeros((3, 8, 8))
        file['labels'] = np.zeros((3, 6))
    with pytest.raises(UserError, match='float64'):
        load(path, options)


def test_ground_truth_becomes_labels_only_when_asked(tmp_path: Path, options: DataOptions) -> None:
    messages = drive(2, 3)
    for k, (_, _, stamp, _) in enumerate(list(messages)):
        word = STORE.types[STRING](data=json.dumps(
            {'stamp': stamp, 'shape': ('sphere', 'cube')[k // 3], 'distance': 1.0}))
        messages.append(('/truth', STRING, stamp, word))
    bag = write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    assert load(bag, options).labels == {}
    told = load(bag, replace(options, ground_truth_topic='/truth'))
    assert told.label_names == {'shape': ('cube', 'sphere')}
    assert told.labels['shape'].tolist() == [1, 1, 1, 0, 0, 0]


def test_cache_is_used_again_and_keyed_by_content_and_options(tmp_path: Path,
                                                              options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive())
    load(bag, options)
    binary = next((tmp_path / 'cache').glob('*/images.bin'))
    written = binary.stat().st_mtime_ns
    load(bag, options)
    assert binary.stat().st_mtime_ns == written
    load(bag, replace(options, size=8))
    assert len(list((tmp_path / 'cache').glob('*/images.bin'))) == 2
    shutil.rmtree(bag)
    changed = load(write_bag(bag, drive(start=5 * 10 ** 9, clips=2)), options)
    assert len(changed.images) == 12


def test_two_builders_at_once_and_one_killed_leave_a_whole_cache(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', drive(3, 40))
    program = ('import sys; from imn_world_model.data.frames import *; '
               'frames = load_frames([sys.argv[1]], DataOptions(size=16, still=0.0, '
               'cache_dir=Path(sys.argv[2])), progress=False); '
               'print(len(frames.images), int(frames.images[:].astype(int).sum()))')
    command = [sys.executable, '-c', program, str(bag), str(tmp_path / 'cache')]
    root = Path(__file__).parents[1]
    victim = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    while victim.poll() is None and not list((tmp_path / 'cache').glob('*.lock')):
        pass
    victim.kill()
    victim.wait()
    both = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in both]
    assert answers[0] == answers[1] and answers[0].startswith('120 ')


def test_cut_clips_at_gaps_backward_stamps_scene_changes_and_length() -> None:
    second = 10 ** 9
    stamp = np.array([1, 2, 3, 8, 9, 4, 5, 6, 7, 8]) * second
    change = np.array([0, 1, 1, 1, 1, 1, 1, 90, 1, 1.0])
    clip = cut_clips(stamp, change, gap=1.5, scene_change=40.0, max_length=100)
    assert clip.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert cut_clips(np.zeros(7, int), np.zeros(7), 1.0, 40.0, 3).tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_moving_keeps_a_frame_once_enough_has_changed() -> None:
    change = np.array([0, 0.1, 0.1, 0.1, 2.0, 0.0, 0.0])
    clip = np.array([0, 0, 0, 0, 0, 0, 1])
    assert moving(change, clip, 0.25).tolist() == [True, False, False, True, True, False, True]
    assert moving(change, clip, 0.0).all()


def test_split_clips_gives_every_split_something_and_is_stable() -> None:
    few = split_clips([f'a{k}' for k in range(4)], (0.05, 0.1), 0)
    assert set(few) == {0, 1, 2}
    names = [f'clip {k}' for k in range(2000)]
    many = split_clips(names, (0.05, 0.1), 0)
    assert np.allclose(np.bincount(many) / 2000, (0.85, 0.05, 0.1), atol=0.02)
    assert np.array_equal(many[::2], split_clips(names[::2], (0.05, 0.1), 0))
    assert (many != split_clips(names, (0.05, 0.1), 1)).any()


def test_many_recordings_of_one_clip_fill_every_split(tmp_path: Path, options: DataOptions
                                                      ) -> None:
    for number in range(4):
        write_bag(tmp_path / 'logs' / f'bag{number}', drive(1, 4, start=(number + 1) * 10 ** 9))
    frames = load(tmp_path / 'logs', options)
    assert set(frames.split) == {0, 1, 2} and len(np.unique(frames.clip)) == 4
    for clip in range(4):
        assert len(np.unique(frames.split[frames.clip == clip])) == 1


def test_a_change_between_the_samples_of_a_large_file_is_seen(tmp_path: Path,
                                                              options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', drive())
    load(bag, options)
    os.utime(storage_file(bag), ns=(1, 1))           # as if written again at another time
    load(bag, options)
    assert len(list((tmp_path / 'cache').glob('*/images.bin'))) == 2


def test_split_factors_holds_out_combinations_not_values() -> None:
    factors = np.stack(np.unravel_index(np.arange(4800), (10, 10, 4, 12)), axis=1)
    split = split_factors(factors, (0.05, 0.1))
    assert np.allclose(np.bincount(split) / 4800, (0.85, 0.05, 0.1), atol=0.02)
    for column in factors.T:                         # every value occurs in every split
        for k in range(3):
            assert len(np.unique(column[split == k])) == column.max() + 1
    again = split_factors(np.concatenate((factors[50:], factors[:50])), (0.05, 0.1))
    assert np.array_equal(np.concatenate((again[-50:], again[:-50])), split)
