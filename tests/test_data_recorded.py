"""Bags, videos and pictures of one recording share their splits; those of several do not."""
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, compressed, scene, storage_file, write_bag
from rosbags.rosbag2 import StoragePlugin
from test_data_frames import write_video

from imn_world_model.data.frames import DataOptions, Frames, load_frames

SECOND = 10 ** 9
START = 1_717_000_000 * SECOND                        # in 2024


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def camera(topic: str, number: int, count: int = 240, start: int = START, clips: int = 12,
           delay: int = 0) -> list[tuple[str, str, int, object]]:
    """:return: JPEG messages of one camera at 10 Hz, several seconds between clips."""
    messages = []
    for k in range(count):
        stamp = start + k * SECOND // 10 + (k * clips // count) * 5 * SECOND
        messages.append((topic, COMPRESSED, stamp + delay,
                         compressed(scene(number, k % 12), stamp)))
    return messages


def assert_one_split_at_a_time(frames: Frames, reach: float = 0.5) -> None:
    """Frames of different sources less than so many seconds apart must share their split."""
    order = np.argsort(frames.stamp, kind='stable')
    close = np.diff(frames.stamp[order]) < reach * SECOND
    close &= np.diff(frames.source[order]) != 0
    assert close.sum() > 5, 'the sources do not lie at the same time'
    assert not (np.diff(frames.split[order].astype(int))[close] != 0).any()
    assert set(frames.split) == {0, 1, 2}


@pytest.mark.parametrize('names', [('front', 'rear'), ('a', 'b')])
def test_a_bag_for_each_camera_is_one_recording(tmp_path: Path, options: DataOptions,
                                                names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        write_bag(tmp_path / 'logs' / name, camera(f'/{name}/image', number, 240 - number,
                                                   START + number * SECOND // 20))
    frames = load(tmp_path / 'logs', options)
    assert len(frames.sources) == 2
    assert_one_split_at_a_time(frames)
    first, second = (tmp_path / 'logs' / name for name in names)
    assert (f'2 recordings lie at the same time, or are copies, such as {first} and {second}: '
            'they share their splits') in frames.notes


def test_cameras_of_a_rig_may_use_the_same_topic(tmp_path: Path, options: DataOptions) -> None:
    for number in range(2):
        write_bag(tmp_path / 'logs' / f'cam{number}', camera('/image_raw', number, 240 - number))
    assert_one_split_at_a_time(load(tmp_path / 'logs', options))


def test_files_of_one_recording_share_the_clip_that_they_were_split_in(tmp_path: Path,
                                                                       options: DataOptions
                                                                       ) -> None:
    messages = camera('/image', 0, 600, clips=1)
    logs = tmp_path / 'logs'
    logs.mkdir()
    for number in range(20):                          # bare files, as without metadata.yaml
        bag = write_bag(tmp_path / f'bag{number}', messages[30 * number:30 * number + 30])
        storage_file(bag).rename(logs / f'drive_{number}.mcap')
    frames = load(logs, replace(options, max_clip=4))
    assert len(frames.sources) == 20 and set(frames.split) == {0, 1, 2}
    assert_one_split_at_a_time(frames, 0.15)


def test_clocks_of_bags_that_disagree_are_set_by_the_time_of_recording(tmp_path: Path,
                                                                       options: DataOptions
                                                                       ) -> None:
    left = camera('/left', 0)
    right = [('/right', kind, time, compressed(scene(1), time - START + SECOND))
             for _, kind, time, _ in camera('/left', 1)]
    write_bag(tmp_path / 'logs' / 'x', left)
    write_bag(tmp_path / 'logs' / 'y', right)         # stamps since the camera's start
    frames = load(tmp_path / 'logs', options)
    split = [frames.split[frames.source == k] for k in range(2)]
    assert set(split[0]) == {0, 1, 2} and np.array_equal(*split)


def test_a_copy_shares_the_splits_of_what_it_was_made_from(tmp_path: Path, options: DataOptions
                                                           ) -> None:
    messages = [(topic, kind, stamp, compressed(scene(k), stamp))
                for k, (topic, kind, stamp, _) in enumerate(camera('/image', 0))]
    write_bag(tmp_path / 'logs' / 'whole', messages)
    write_bag(tmp_path / 'logs' / 'thin', messages[::3], StoragePlugin.SQLITE3)
    assert_one_split_at_a_time(load(tmp_path / 'logs', options))


def test_pictures_taken_out_of_a_bag_share_its_splits(tmp_path: Path, options: DataOptions
                                                      ) -> None:
    messages = camera('/image', 0)
    write_bag(tmp_path / 'logs' / 'bag', messages)
    folder = tmp_path / 'logs' / 'pictures'
    folder.mkdir()
    for k, (_, _, stamp, _) in enumerate(messages[::2]):
        name = f'{stamp // SECOND}.{stamp % SECOND:09d}.png'
        assert cv2.imwrite(str(folder / name), scene(0, k))
    assert_one_split_at_a_time(load(tmp_path / 'logs', options))


@pytest.mark.parametrize('start', [START, SECOND])
def test_one_camera_at_two_places_is_two_recordings(tmp_path: Path, options: DataOptions,
                                                    start: int) -> None:
    for number in range(2):                           # two robots, or a simulator's logs
        write_bag(tmp_path / 'logs' / f'robot{number}',
                  camera('/image', 2 + 5 * number, 240, start, 10 + number))
    frames = load(tmp_path / 'logs', options)
    for k in range(2):
        alone = load(tmp_path / 'logs' / f'robot{k}', options)
        own = frames.source == k
        assert np.array_equal(frames.split[own], alone.split)
        assert len(np.unique(frames.clip[own])) == 10 + k
    assert not any('same time' in note for note in frames.notes)


@pytest.mark.parametrize('names', [('left', 'right'),
                                   ('20240529_102030_a', '20240529_102030_b')])
def test_videos_of_a_rig_share_their_splits(tmp_path: Path, options: DataOptions,
                                            names: tuple[str, str]) -> None:
    (tmp_path / 'logs').mkdir()
    for number, name in enumerate(names):
        write_video(tmp_path / 'logs' / f'{name}.avi', 150 - number)
    frames = load(tmp_path / 'logs', replace(options, max_clip=10))
    split = [frames.split[frames.source == k] for k in range(2)]
    assert set(split[0]) == {0, 1, 2} and np.array_equal(split[0][:149], split[1])


def test_bags_of_other_days_keep_their_splits(tmp_path: Path, options: DataOptions) -> None:
    write_bag(tmp_path / 'logs' / 'a', camera('/image', 0))
    write_bag(tmp_path / 'logs' / 'b', camera('/image', 0, start=START + 10 ** 5 * SECOND))
    frames = load(tmp_path / 'logs', options)
    for k, name in enumerate('ab'):
        alone = load(tmp_path / 'logs' / name, options)
        assert np.array_equal(frames.split[frames.source == k], alone.split)
    assert not any('same time' in note for note in frames.notes)
