"""Frames that lie at the same time belong to one split, and a small log trains."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import drive, write_bag

from imn_world_model.data.frames import DataOptions, Frames, load_frames

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
