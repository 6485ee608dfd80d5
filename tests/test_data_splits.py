"""Frames that lie at the same time belong to one split, and a small log trains."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import COMPRESSED, compressed, drive, scene, write_bag

from imn_world_model.data.cache import fingerprint
from imn_world_model.data.clips import split_clips
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.sources import Source

SECOND = 10 ** 9


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def assert_one_split_at_a_time(frames: Frames, reach: float = 0.05) -> None:
    """Frames less than so many seconds apart must share their split."""
    order = np.argsort(frames.stamp, kind='stable')
    close = np.diff(frames.stamp[order]) < reach * SECOND
    assert close.any() and not (np.diff(frames.split[order].astype(int))[close] != 0).any()


@pytest.mark.parametrize('clips', [1, 2])
def test_a_log_of_one_or_two_clips_has_something_to_train_on(tmp_path: Path, options: DataOptions,
                                                             clips: int) -> None:
    bag = write_bag(tmp_path / 'bag', drive(clips, 12))
    for seed in range(30 * clips):                    # some would leave training empty by chance
        frames = load(bag, replace(options, seed=seed))
        assert len(frames.images) == 12 * clips and (frames.split == 0).any()


def test_cameras_of_a_rig_share_their_splits(tmp_path: Path, options: DataOptions) -> None:
    messages = []
    for topic, offset, frames in (('/left/image', 0, 20), ('/right/image', 2 * 10 ** 7, 19),
                                  ('/rear/picture', 10 ** 7, 20)):
        messages += [(name, kind, stamp + offset, compressed(scene(k % 7, k % 5), stamp + offset))
                     for k, (name, kind, stamp, _) in enumerate(drive(12, frames, topic=topic))]
    frames = load(write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2])),
                  replace(options, scene_change=1e9))
    assert set(frames.split) == {0, 1, 2} and len(np.unique(frames.clip)) == 36
    assert_one_split_at_a_time(frames)


def test_a_long_rig_is_cut_for_all_cameras_where_it_is_cut_for_one(tmp_path: Path,
                                                                   options: DataOptions) -> None:
    left, right = drive(1, 60, topic='/left'), drive(1, 30, topic='/right')
    times = [item[2] + k * 10 ** 8 for k, item in enumerate(right)]
    messages = left + [('/right', COMPRESSED, time, compressed(scene(9), time)) for time in times]
    bag = write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    frames = load(bag, replace(options, scene_change=1e9, max_clip=10))
    left_alone = load(bag, replace(options, scene_change=1e9, max_clip=10, topics=('/left',)))
    assert set(frames.split) == {0, 1, 2}
    assert_one_split_at_a_time(frames)
    own = frames.topics.index('/left')                # the camera with most frames leads
    assert np.array_equal(frames.split[frames.topic == own], left_alone.split)
    for clip in np.unique(frames.clip):
        assert len(np.unique(frames.split[frames.clip == clip])) == 1
    assert frames.reports[0]['figures']['/right']['cuts']['camera'] > 0


def test_clocks_that_disagree_are_set_by_the_time_of_recording(tmp_path: Path,
                                                               options: DataOptions) -> None:
    messages = []
    for name, kind, stamp, _ in drive(12, 10, topic='/left'):
        messages.append((name, kind, stamp, compressed(scene(0), stamp)))
        late = stamp - 10 ** 9 + 5                    # time since the camera's start
        messages.append(('/right', kind, stamp + 5, compressed(scene(1), late)))
    frames = load(write_bag(tmp_path / 'bag', messages), options)
    split = [frames.split[frames.topic == k] for k in range(2)]
    assert set(split[0]) == {0, 1, 2} and np.array_equal(*split)


def test_a_camera_alone_keeps_its_splits(tmp_path: Path, options: DataOptions) -> None:
    # As hashed from the recording's bytes, the topic and the clip's number.
    bag = write_bag(tmp_path / 'bag', drive(40, 2))
    frames = load(bag, options)
    entry = fingerprint(Source('bag', bag))
    names = [f'{entry}:/camera/image:{number}' for number in range(40)]
    assert np.array_equal(frames.split[::2], split_clips(names, options.fractions, options.seed))


def test_a_rectified_topic_that_is_recorded_later_shares_its_splits(tmp_path: Path,
                                                                    options: DataOptions) -> None:
    messages = []
    for _, _, stamp, image in drive(12, 10):
        messages += [('/cam/image_raw', COMPRESSED, stamp, image),
                     ('/cam/image_rect', COMPRESSED, stamp + 15 * 10 ** 7, image)]
    bag = write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    frames = load(bag, replace(options, max_clip=4))
    assert set(frames.split) == {0, 1, 2} and len(frames.topics) == 2
    for stamp in np.unique(frames.stamp):             # the same picture, however late it came
        assert len(np.unique(frames.split[frames.stamp == stamp])) == 1
