"""What of a video is lost: neither pauses of a variable rate nor what its cutter left out."""
from pathlib import Path

import numpy as np
import pytest
from test_data_frames import write_video
from videos import matroska, mpeg4, trim

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames, load_frames

# 30 Hz, but for a pause of 3 s; of steps that vary; of every third frame left out.
PAUSE = [k / 30 + 3 * (k >= 45) for k in range(90)]
VARYING = np.cumsum(np.random.default_rng(0).choice([1, 2, 5], 90))
VARIABLE = {'pause': PAUSE, 'varying': ((VARYING - VARYING[0]) / 30).tolist(),
            'sparse': [k / 30 for k in range(135) if k % 3 < 2]}


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


@pytest.mark.parametrize('name', VARIABLE)
def test_a_variable_rate_is_no_loss(tmp_path: Path, options: DataOptions, name: str) -> None:
    times = VARIABLE[name]
    frames = load(matroska(tmp_path / 'ride.mkv', times, times[-1] + 1 / 30), options)
    assert np.allclose(frames.stamp / 1e9, times, atol=0.001)
    assert frames.reports[0]['lost'] == 0 and frames.reports[0]['recorded'] == len(times)
    assert not frames.notes
    assert len(np.unique(frames.clip)) == 1 + (name == 'pause')


@pytest.mark.parametrize('sized', [True, False])
def test_sound_that_goes_on_is_no_loss(tmp_path: Path, options: DataOptions, sized: bool) -> None:
    times = [k / 30 for k in range(90)]
    frames = load(matroska(tmp_path / 'ride.mkv', times, 6.0, sized), options)
    assert len(frames.images) == 90 and frames.reports[0]['lost'] == 0
    assert frames.notes == (
        f'{tmp_path}/ride.mkv ends after 3.0 of 6.0 s, without a picture for the rest',)


def test_a_killed_recorder_that_announced_nothing_lost_nothing(tmp_path: Path,
                                                               options: DataOptions) -> None:
    file = matroska(tmp_path / 'ride.mkv', [k / 30 for k in range(90)], None, False)
    assert len(load(file, options).images) == 90
    file.write_bytes(file.read_bytes()[:-1000])
    frames = load(file, options)
    assert 80 < len(frames.images) < 90 and frames.reports[0]['lost'] == 0 and not frames.notes


def test_what_a_cutter_left_out_is_no_loss(tmp_path: Path, options: DataOptions) -> None:
    file = mpeg4(tmp_path / 'ride.mp4', 60)
    assert len(load(file, options).images) == 60
    trim(file, 24)
    frames = load(file, options)
    assert 30 <= len(frames.images) < 60              # from the key frame before
    assert frames.reports[0]['lost'] == 0 and not frames.notes


@pytest.mark.parametrize('name', ['ride.mkv', 'ride.avi'])
def test_a_cut_off_end_is_a_loss(tmp_path: Path, options: DataOptions, name: str) -> None:
    file = tmp_path / name
    if name.endswith('mkv'):
        matroska(file, [k / 10 for k in range(80)], 8.0)
    else:
        write_video(file, 80)                         # 10 Hz
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    frames = load(file, options)
    count = len(frames.images)
    assert 20 < count < 60 and frames.reports[0]['lost'] == 80 - count
    assert frames.notes == (f'{file} ends after {(count - 1) / 10:.1f} of 8.0 s: '
                            f'about {80 - count} frames lost',)


def spoil(file: Path, first: int, last: int) -> None:
    """Fill frames of an AVI file with zeros, as a disk does that loses blocks."""
    data = bytearray(file.read_bytes())
    place = data.index(b'movi')
    for k in range(last):
        place = data.index(b'00dc', place) + 8
        if k >= first:
            length = int.from_bytes(data[place - 4:place], 'little')
            data[place:place + length] = bytes(length)
    file.write_bytes(data)


def test_frames_behind_damaged_ones_are_read(tmp_path: Path, options: DataOptions) -> None:
    file = write_video(tmp_path / 'ride.avi', 60)
    spoil(file, 30, 33)
    frames = load(file, options)
    assert len(frames.images) == 57 and frames.reports[0]['lost'] == 3
    assert frames.stamp[-1] == 1 + 59 * 10 ** 8
    assert frames.notes == (f'{file}: 3 frames cannot be decoded',)


def test_a_damaged_end_is_a_loss(tmp_path: Path, options: DataOptions) -> None:
    file = write_video(tmp_path / 'ride.avi', 60)
    spoil(file, 50, 60)
    frames = load(file, options)
    assert len(frames.images) == 50 and frames.reports[0]['lost'] == 10
    assert frames.notes == (f'{file}: 10 of 60 frames missing',)
    spoil(file, 0, 60)
    with pytest.raises(UserError, match='none of about 60 frames can be decoded'):
        load(file, options)
